INSERT INTO secret (id, tenant_id, endpoint_id, standing, sealed, created_at)
VALUES (:id, :tenant_id, :endpoint_id, 0, :sealed, :at)
