SELECT event_type, accepted_at, payload
FROM event
WHERE tenant_id = $1 AND id = $2
