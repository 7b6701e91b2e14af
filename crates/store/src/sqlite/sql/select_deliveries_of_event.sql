SELECT id, endpoint_id, trigger, status, attempts_made, due_at, created_at, finished_at
FROM delivery
WHERE event_id = :event_id
  AND EXISTS (SELECT 1 FROM endpoint WHERE endpoint.id = endpoint_id AND deleted_at IS NULL)
ORDER BY id
LIMIT :limit
