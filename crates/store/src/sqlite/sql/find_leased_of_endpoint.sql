SELECT id FROM delivery
WHERE endpoint_id = :endpoint_id AND status = 1
LIMIT :limit
