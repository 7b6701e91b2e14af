-- ?1 id, ?2 tenant, ?3 endpoint, ?4 event, ?5 trigger, ?6 status, ?7 when it comes into being and is due, ?8 lease.
-- Inserts nothing for an endpoint that is deleted, gone, or another tenant's: a publish that races with a delete leaves
-- no orphan.
INSERT INTO delivery
    (id, tenant_id, endpoint_id, event_id, trigger, status, due_at, lease, created_at)
SELECT ?1, tenant_id, id, ?4, ?5, ?6, ?7, ?8, ?7
FROM endpoint
WHERE id = ?3 AND tenant_id = ?2 AND deleted_at IS NULL
