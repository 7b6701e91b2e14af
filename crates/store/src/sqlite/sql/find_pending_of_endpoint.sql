SELECT id FROM delivery
WHERE endpoint_id = :endpoint_id AND status = 0
LIMIT :limit
