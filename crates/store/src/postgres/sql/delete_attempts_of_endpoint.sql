-- Attempts of a deleted endpoint, and their deliveries. Nobody asks for its counters any more.
WITH found AS MATERIALIZED (
    SELECT tenant_id, id
    FROM attempt
    WHERE tenant_id = $1 AND endpoint_id = $2
    LIMIT $3
    FOR UPDATE SKIP LOCKED
),
gone AS (
    DELETE FROM attempt USING found
    WHERE attempt.tenant_id = found.tenant_id AND attempt.id = found.id
    RETURNING attempt.tenant_id, attempt.delivery_id
),
gone_with_them AS (
    DELETE FROM delivery USING (SELECT DISTINCT tenant_id, delivery_id FROM gone) AS ended
    WHERE delivery.tenant_id = ended.tenant_id AND delivery.id = ended.delivery_id
    RETURNING 1
)
SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM gone_with_them)
