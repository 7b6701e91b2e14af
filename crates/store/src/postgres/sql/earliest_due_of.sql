SELECT due_at
FROM delivery
WHERE tenant_id = (SELECT tenant_id FROM endpoint WHERE id = $1 AND deleted_at IS NULL)
  AND endpoint_id = $1 AND status = 0
ORDER BY due_at, id
LIMIT 1
