INSERT INTO endpoint
    (id, tenant_id, created_at, updated_at, is_active, ssl_cert_verification, target, description,
     signature_algorithms)
VALUES
    (:id, :tenant_id, :at, :at, :is_active, :ssl_cert_verification, :target, :description,
     :signature_algorithms)
