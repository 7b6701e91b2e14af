-- One that has a key keeps it.
UPDATE secret SET sealed_key = $4
WHERE tenant_id = $1 AND endpoint_id = $2 AND id = $3 AND standing IN (0, 1) AND sealed_key IS NULL
