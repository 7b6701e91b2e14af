UPDATE event_type SET retired_at = :at
WHERE tenant_id = :tenant_id AND name = :name AND retired_at IS NULL
