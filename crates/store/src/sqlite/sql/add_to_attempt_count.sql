INSERT INTO attempt_count (endpoint_id, node, count)
VALUES (:endpoint_id, 0, :more)
ON CONFLICT (endpoint_id, node) DO UPDATE SET count = count + excluded.count
