INSERT INTO secret (tenant_id, id, endpoint_id, standing, sealed, created_at)
VALUES ($1, $2, $3, 0, $4, $5)
