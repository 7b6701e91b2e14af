UPDATE secret SET standing = 2, grace_until = NULL, sealed = NULL, sealed_key = NULL
WHERE tenant_id = $1 AND id = $2 AND standing IN (0, 1)
