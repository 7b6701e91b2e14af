-- ?1 id, ?2 tenant, ?3 endpoint, ?4 event, ?5 lease; ?6 new status, ?7 attempts made, ?8 next retry, ?9 end.
-- The fence: whoever lost the lease, or whose endpoint was deleted meanwhile, changes nothing.
UPDATE delivery
SET status = ?6,
    attempts_made = ?7,
    due_at = coalesce(?8, due_at),
    lease = NULL,
    finished_at = ?9
WHERE id = ?1 AND status = 1 AND lease = ?5
  AND tenant_id = ?2 AND endpoint_id = ?3 AND event_id = ?4
  AND EXISTS (SELECT 1 FROM endpoint WHERE id = ?3 AND deleted_at IS NULL)
