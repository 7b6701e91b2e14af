-- $1 tenant, $2 name, $3 description, $4 time
INSERT INTO event_type (tenant_id, name, position, description, created_at)
SELECT $1::bigint, $2, 1 + coalesce(max(position), 0), $3, $4
FROM event_type
WHERE tenant_id = $1
