UPDATE endpoint SET deleted_at = :at
WHERE id = :id AND tenant_id = :tenant_id AND deleted_at IS NULL
