UPDATE "user"
SET role = $3,
    password_hash = $4,
    is_active = $5
WHERE tenant_id = $1 AND id = $2
