-- The current one first, then those in grace, newest first.
SELECT id, sealed, sealed_key, standing, grace_until, created_at
FROM secret
WHERE endpoint_id = :endpoint_id AND standing IN (0, 1)
ORDER BY standing, created_at DESC, id DESC
