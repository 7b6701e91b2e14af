SELECT id, tenant_id, created_at, updated_at, is_active, ssl_cert_verification, target, description,
    signature_algorithms
FROM endpoint
WHERE id = :id AND tenant_id = :tenant_id AND deleted_at IS NULL
