UPDATE endpoint
SET updated_at = :at,
    is_active = :is_active,
    ssl_cert_verification = :ssl_cert_verification,
    target = :target,
    description = :description,
    signature_algorithms = :signature_algorithms
WHERE id = :id
