SELECT due_at FROM delivery
WHERE endpoint_id = :endpoint_id AND status = 0
  AND EXISTS (SELECT 1 FROM endpoint WHERE id = :endpoint_id AND deleted_at IS NULL)
ORDER BY due_at
LIMIT 1
