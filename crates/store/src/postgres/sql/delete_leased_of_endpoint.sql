-- The index of leased deliveries is by lease; it is as small as what is in flight.
WITH found AS MATERIALIZED (
    SELECT tenant_id, id
    FROM delivery
    WHERE tenant_id = $1 AND endpoint_id = $2 AND status = 1
    LIMIT $3
    FOR UPDATE SKIP LOCKED
),
gone AS (
    DELETE FROM delivery USING found
    WHERE delivery.tenant_id = found.tenant_id AND delivery.id = found.id
    RETURNING 1
)
SELECT count(*) FROM gone
