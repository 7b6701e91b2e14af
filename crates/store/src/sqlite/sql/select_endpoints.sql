-- Without its ORDER BY, which the query names. lower() folds ASCII alone.
SELECT id, tenant_id, created_at, updated_at, is_active, ssl_cert_verification, target, description,
    signature_algorithms
FROM endpoint
WHERE tenant_id = :tenant_id AND deleted_at IS NULL
  AND (:target_contains IS NULL OR instr(lower(target), lower(:target_contains)) > 0)
