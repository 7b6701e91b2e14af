INSERT INTO secret (id, tenant_id, endpoint_id, standing, sealed, sealed_key, created_at)
VALUES (:id, :tenant_id, :endpoint_id, 0, :sealed, :sealed_key, :at)
