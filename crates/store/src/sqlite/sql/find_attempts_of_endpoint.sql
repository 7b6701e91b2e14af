SELECT id FROM attempt
WHERE endpoint_id = :endpoint_id
LIMIT :limit
