-- One seek into the index of pending deliveries for each endpoint, however long its backlog.
SELECT endpoint.tenant_id, endpoint.id AS endpoint_id, earliest.due_at
FROM endpoint CROSS JOIN LATERAL (
    SELECT due_at FROM delivery
    WHERE delivery.tenant_id = endpoint.tenant_id AND endpoint_id = endpoint.id AND status = 0
    ORDER BY due_at, id
    LIMIT 1
) AS earliest
WHERE deleted_at IS NULL
ORDER BY endpoint.id
