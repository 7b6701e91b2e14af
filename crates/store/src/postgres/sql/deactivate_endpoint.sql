UPDATE endpoint SET is_active = FALSE, updated_at = $3
WHERE tenant_id = $1 AND id = $2 AND is_active AND deleted_at IS NULL
