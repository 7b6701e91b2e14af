UPDATE secret SET standing = 2, grace_until = NULL, sealed = NULL, sealed_key = NULL
WHERE id = :id AND standing IN (0, 1)
