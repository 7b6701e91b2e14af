SELECT event_type, accepted_at, payload
FROM event
WHERE id = :id AND tenant_id = :tenant_id
