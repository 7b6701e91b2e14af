UPDATE token SET revoked_at = :at
WHERE id = :id AND tenant_id = :tenant_id AND revoked_at IS NULL
