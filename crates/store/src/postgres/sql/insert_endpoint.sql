-- $1 tenant, $2 id, $3 time, $4 active, $5 verification, $6 target, $7 description, $8 algorithms
INSERT INTO endpoint
    (tenant_id, id, created_at, updated_at, is_active, ssl_cert_verification, target, description,
     signature_algorithms)
VALUES
    ($1, $2, $3, $3, $4, $5, $6, $7, $8)
