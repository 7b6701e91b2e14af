-- One seek into the index of pending deliveries for each endpoint, however long its backlog.
SELECT tenant_id, id, due_at
FROM (
    SELECT endpoint.tenant_id, endpoint.id, (
        SELECT due_at FROM delivery
        WHERE endpoint_id = endpoint.id AND status = 0
        ORDER BY due_at
        LIMIT 1
    ) AS due_at
    FROM endpoint
    WHERE deleted_at IS NULL
    ORDER BY endpoint.id
)
WHERE due_at IS NOT NULL
