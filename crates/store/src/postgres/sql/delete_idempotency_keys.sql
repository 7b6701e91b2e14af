WITH found AS MATERIALIZED (
    SELECT tenant_id, key
    FROM idempotency
    WHERE kept_at < $1
    LIMIT $2
    FOR UPDATE SKIP LOCKED
)
DELETE FROM idempotency USING found
WHERE idempotency.tenant_id = found.tenant_id AND idempotency.key = found.key
