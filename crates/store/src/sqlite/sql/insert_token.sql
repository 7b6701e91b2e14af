INSERT INTO token (id, tenant_id, user_id, name, role, hash, created_at, expires_at)
VALUES (:id, :tenant_id, :user_id, :name, :role, :hash, :at, :expires_at)
