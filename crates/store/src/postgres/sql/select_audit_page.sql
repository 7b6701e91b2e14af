-- Without its ORDER BY, which the query names.
-- $1 tenant, $2 action, $3 actor, $4 since, $5 until
SELECT id, at, actor, address, action, subject
FROM audit
WHERE tenant_id = $1
  AND ($2::text IS NULL OR action = $2)
  AND ($3::text IS NULL OR actor = $3)
  AND ($4::bigint IS NULL OR at >= $4)
  AND ($5::bigint IS NULL OR at < $5)
