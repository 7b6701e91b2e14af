-- One seek into the index of pending deliveries for each endpoint, however long its backlog.
SELECT endpoint.tenant_id, endpoint.id, delivery.due_at
FROM endpoint CROSS JOIN delivery ON delivery.id = (
    SELECT id FROM delivery
    WHERE endpoint_id = endpoint.id AND status = 0
    ORDER BY due_at
    LIMIT 1
)
WHERE deleted_at IS NULL
ORDER BY endpoint.id
