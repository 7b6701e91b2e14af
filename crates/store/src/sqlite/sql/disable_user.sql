UPDATE user SET is_active = 0
WHERE tenant_id = :tenant_id AND name = :name
RETURNING id
