SELECT coalesce(sum(count), 0)
FROM attempt_count
WHERE endpoint_id = :endpoint_id
