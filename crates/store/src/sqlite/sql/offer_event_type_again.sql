UPDATE event_type SET retired_at = NULL, description = :description
WHERE tenant_id = :tenant_id AND name = :name
