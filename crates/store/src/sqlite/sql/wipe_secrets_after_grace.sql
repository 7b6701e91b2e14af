UPDATE secret SET standing = 2, grace_until = NULL, sealed = NULL, sealed_key = NULL
WHERE id IN (
    SELECT id FROM secret
    WHERE standing = 1 AND grace_until < :before
    LIMIT :limit
)
