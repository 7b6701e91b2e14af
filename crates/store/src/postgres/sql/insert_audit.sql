INSERT INTO audit (tenant_id, id, at, actor, address, action, subject)
VALUES ($1, $2, $3, $4, $5, $6, $7)
