-- `status = 0` is written out, so that the planner may use the index of pending deliveries.
SELECT delivery.id, delivery.tenant_id, event_id, trigger, attempts_made, payload
FROM delivery JOIN event ON event.id = event_id
WHERE endpoint_id = :endpoint_id AND status = 0 AND due_at <= :now
ORDER BY due_at, delivery.id
LIMIT :limit
