UPDATE endpoint SET deleted_at = $3
WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL
