-- $1 before, $2 limit
WITH found AS MATERIALIZED (
    SELECT tenant_id, id FROM audit WHERE at < $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED
)
DELETE FROM audit
USING found
WHERE audit.tenant_id = found.tenant_id AND audit.id = found.id
