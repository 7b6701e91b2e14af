DELETE FROM delivery
WHERE event_id = :event_id
  AND (finished_at < :before OR NOT EXISTS (SELECT 1 FROM endpoint WHERE endpoint.id = endpoint_id))
