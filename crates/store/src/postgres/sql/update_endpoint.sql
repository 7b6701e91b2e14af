UPDATE endpoint
SET updated_at = $3,
    is_active = $4,
    ssl_cert_verification = $5,
    target = $6,
    description = $7,
    signature_algorithms = $8
WHERE tenant_id = $1 AND id = $2
