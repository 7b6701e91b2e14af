-- One that has a key keeps it.
UPDATE secret SET sealed_key = :sealed_key
WHERE id = :id AND endpoint_id = :endpoint_id AND standing IN (0, 1) AND sealed_key IS NULL
