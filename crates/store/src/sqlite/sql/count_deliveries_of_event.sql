SELECT count(*)
FROM delivery
WHERE event_id = :event_id
  AND EXISTS (SELECT 1 FROM endpoint WHERE endpoint.id = endpoint_id AND deleted_at IS NULL)
