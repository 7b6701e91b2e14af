-- The first half of a page: its ids, from the index alone. Without its ORDER BY, which the query names.
SELECT id
FROM attempt
WHERE tenant_id = $1 AND endpoint_id = $2
