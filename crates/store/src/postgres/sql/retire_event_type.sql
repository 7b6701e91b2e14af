UPDATE event_type SET retired_at = $3
WHERE tenant_id = $1 AND name = $2 AND retired_at IS NULL
