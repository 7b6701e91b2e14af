DELETE FROM attempt
WHERE id = :id
RETURNING endpoint_id, delivery_id
