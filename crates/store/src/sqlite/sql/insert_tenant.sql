INSERT INTO tenant (id, name, jwt_secret, created_at)
VALUES (:id, :name, :jwt_secret, :at)
ON CONFLICT (name) DO NOTHING
