WITH found AS MATERIALIZED (
    SELECT tenant_id, id
    FROM secret
    WHERE standing = 1 AND grace_until < $1
    LIMIT $2
    FOR UPDATE SKIP LOCKED
)
UPDATE secret
SET standing = 2, grace_until = NULL, sealed = NULL, sealed_key = NULL
FROM found
WHERE secret.tenant_id = found.tenant_id AND secret.id = found.id
