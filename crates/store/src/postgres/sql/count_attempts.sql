SELECT coalesce(sum(count), 0)::bigint
FROM attempt_count
WHERE tenant_id = $1 AND endpoint_id = $2
