INSERT INTO secret (tenant_id, id, endpoint_id, standing, sealed, sealed_key, created_at)
VALUES ($1, $2, $3, 0, $4, $5, $6)
