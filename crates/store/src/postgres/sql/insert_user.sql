INSERT INTO "user" (tenant_id, id, name, role, password_hash, is_active, created_at)
VALUES ($1, $2, $3, $4, $5, TRUE, $6)
ON CONFLICT (name) DO NOTHING
