INSERT INTO user (id, tenant_id, name, role, password_hash, is_active, created_at)
VALUES (:id, :tenant_id, :name, :role, :password_hash, 1, :at)
ON CONFLICT (name) DO NOTHING
