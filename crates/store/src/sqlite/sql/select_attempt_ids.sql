-- The first half of a page: its ids, from the index alone. Without its ORDER BY, which the query names.
SELECT id
FROM attempt
WHERE endpoint_id = :endpoint_id
