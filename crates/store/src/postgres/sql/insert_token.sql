INSERT INTO token (tenant_id, id, user_id, name, role, hash, created_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
