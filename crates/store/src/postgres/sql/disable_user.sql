UPDATE "user" SET is_active = FALSE
WHERE tenant_id = $1 AND name = $2
RETURNING id
