INSERT INTO event_type (tenant_id, name, position, description, created_at)
SELECT :tenant_id, :name, 1 + coalesce(max(position), 0), :description, :at
FROM event_type
WHERE tenant_id = :tenant_id
