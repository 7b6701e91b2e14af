-- Whether nothing refers to a deleted endpoint any more.
SELECT id FROM endpoint
WHERE id = :endpoint_id AND deleted_at IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM attempt WHERE endpoint_id = :endpoint_id)
  AND NOT EXISTS (SELECT 1 FROM delivery WHERE endpoint_id = :endpoint_id AND status = 0)
  AND NOT EXISTS (SELECT 1 FROM delivery WHERE endpoint_id = :endpoint_id AND status = 1)
