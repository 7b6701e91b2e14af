-- $1 lease, $2 deliveries. Rows are locked in the order of their keys, as everywhere.
WITH found AS MATERIALIZED (
    SELECT tenant_id, id
    FROM delivery
    WHERE status = 1 AND lease = $1 AND id = ANY ($2)
    ORDER BY tenant_id, id
    FOR UPDATE
)
UPDATE delivery
SET status = 0, lease = NULL
FROM found
WHERE delivery.tenant_id = found.tenant_id AND delivery.id = found.id
