DELETE FROM idempotency
WHERE (tenant_id, key) IN (
    SELECT tenant_id, key FROM idempotency
    WHERE kept_at < :before
    LIMIT :limit
)
