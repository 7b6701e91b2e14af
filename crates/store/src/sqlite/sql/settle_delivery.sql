-- The fence: whoever lost the lease, or whose endpoint was deleted meanwhile, changes nothing.
UPDATE delivery
SET status = :status,
    due_at = coalesce(:due_at, due_at),
    attempts_made = :attempt_number,
    lease = NULL,
    finished_at = :finished_at
WHERE id = :id AND status = 1 AND lease = :lease
  AND tenant_id = :tenant_id AND endpoint_id = :endpoint_id AND event_id = :event_id
  AND EXISTS (SELECT 1 FROM endpoint WHERE id = :endpoint_id AND deleted_at IS NULL)
