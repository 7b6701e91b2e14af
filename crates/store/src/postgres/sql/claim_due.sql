-- $1 endpoint, $2 now, $3 count, $4 bytes, $5 lease. `status = 0` is written out, so that the planner may use the index of
-- pending deliveries, whose order is that of the claim.
WITH due AS MATERIALIZED (
    SELECT tenant_id, id, event_id, due_at
    FROM delivery
    WHERE tenant_id = (SELECT tenant_id FROM endpoint WHERE id = $1 AND is_active AND deleted_at IS NULL)
      AND endpoint_id = $1 AND status = 0 AND due_at <= $2
    ORDER BY due_at, id
    LIMIT $3
    FOR UPDATE SKIP LOCKED
),
-- How many bytes the payloads have together up to each; of a payload alone the length is read here.
measured AS MATERIALIZED (
    SELECT due.tenant_id, due.id, due.event_id, due.due_at, octet_length(payload) AS bytes,
        sum(octet_length(payload)) OVER (ORDER BY due.due_at, due.id ROWS UNBOUNDED PRECEDING) AS total
    FROM due JOIN event ON event.tenant_id = due.tenant_id AND event.id = due.event_id
),
-- At least one is taken, however large it is. What doesn't fit is unlocked when the statement ends.
claimed AS (
    UPDATE delivery
    SET status = 1, lease = $5
    FROM measured
    WHERE delivery.tenant_id = measured.tenant_id AND delivery.id = measured.id
      AND (total <= $4 OR total = bytes)
    RETURNING delivery.tenant_id, delivery.id, delivery.event_id, delivery.due_at, trigger, attempts_made
)
SELECT claimed.tenant_id, claimed.id, event_id, trigger, attempts_made, payload
FROM claimed JOIN event ON event.tenant_id = claimed.tenant_id AND event.id = event_id
ORDER BY due_at, claimed.id
