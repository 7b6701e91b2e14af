SELECT event_type, added_at
FROM subscription
WHERE endpoint_id = :endpoint_id
ORDER BY position
