-- Inserts nothing for an endpoint that is deleted, gone, or another tenant's: a publish that races with a delete leaves
-- no orphan.
INSERT INTO delivery
    (id, tenant_id, endpoint_id, event_id, trigger, status, due_at, lease, created_at)
SELECT :id, tenant_id, id, :event_id, :trigger, :status, :at, :lease, :at
FROM endpoint
WHERE id = :endpoint_id AND tenant_id = :tenant_id AND deleted_at IS NULL
