-- A deleted endpoint to which nothing refers any more.
SELECT id
FROM endpoint
WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NOT NULL
  AND NOT EXISTS (SELECT FROM attempt WHERE tenant_id = $1 AND endpoint_id = $2)
  AND NOT EXISTS (SELECT FROM delivery WHERE tenant_id = $1 AND endpoint_id = $2 AND status = 0)
  AND NOT EXISTS (SELECT FROM delivery WHERE tenant_id = $1 AND endpoint_id = $2 AND status = 1)
FOR UPDATE SKIP LOCKED
