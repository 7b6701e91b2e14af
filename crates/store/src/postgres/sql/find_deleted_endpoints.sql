SELECT tenant_id, id
FROM endpoint
WHERE deleted_at < $1
ORDER BY deleted_at
LIMIT $2
