SELECT name, description, created_at, retired_at
FROM event_type
WHERE tenant_id = $1 AND name = $2
