INSERT INTO tenant (id, name, jwt_secret, created_at)
VALUES ($1, $2, $3, $4)
ON CONFLICT (name) DO NOTHING
