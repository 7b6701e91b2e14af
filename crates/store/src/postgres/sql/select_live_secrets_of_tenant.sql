-- Of each endpoint the current one first, then those in grace, newest first.
SELECT endpoint_id, id, sealed, sealed_key, standing, grace_until, created_at
FROM secret
WHERE tenant_id = $1 AND standing IN (0, 1)
ORDER BY endpoint_id, standing, created_at DESC, id DESC
