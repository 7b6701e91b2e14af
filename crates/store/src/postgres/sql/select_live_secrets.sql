-- The current one first, then those in grace, newest first.
SELECT id, sealed, sealed_key, standing, grace_until, created_at
FROM secret
WHERE tenant_id = $1 AND endpoint_id = $2 AND standing IN (0, 1)
ORDER BY standing, created_at DESC, id DESC
