-- $1 now, $2 by. Rows are locked in the order of their keys, as everywhere.
WITH found AS MATERIALIZED (
    SELECT tenant_id, id
    FROM delivery
    WHERE status = 0 AND due_at > $1
    ORDER BY tenant_id, id
    FOR UPDATE
)
UPDATE delivery
SET due_at = greatest(due_at - $2, $1)
FROM found
WHERE delivery.tenant_id = found.tenant_id AND delivery.id = found.id
