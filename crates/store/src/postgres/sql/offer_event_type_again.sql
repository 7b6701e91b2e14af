UPDATE event_type SET retired_at = NULL, description = $3
WHERE tenant_id = $1 AND name = $2
