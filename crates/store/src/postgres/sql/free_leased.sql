-- $1 lease, $2 limit. What is being settled in this moment is left to its settlement.
WITH found AS MATERIALIZED (
    SELECT tenant_id, id
    FROM delivery
    WHERE status = 1 AND lease = $1
    LIMIT $2
    FOR UPDATE SKIP LOCKED
)
UPDATE delivery
SET status = 0, lease = NULL
FROM found
WHERE delivery.tenant_id = found.tenant_id AND delivery.id = found.id
RETURNING delivery.tenant_id, delivery.endpoint_id
