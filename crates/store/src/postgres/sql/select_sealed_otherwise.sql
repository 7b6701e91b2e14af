-- $1 head, which is nobody's where it is empty; $2 kind, $3 tenant, $4 id, $5 limit
SELECT kind, tenant_id, id, sealed
FROM (
    SELECT 0::bigint AS kind, id AS tenant_id, id, jwt_secret AS sealed FROM tenant
    UNION ALL
    SELECT 1, tenant_id, id, sealed FROM secret WHERE sealed IS NOT NULL
    UNION ALL
    SELECT 2, tenant_id, id, sealed_key FROM secret WHERE sealed_key IS NOT NULL
) AS found
WHERE (length($1::bytea) = 0 OR substring(sealed FROM 1 FOR length($1::bytea)) <> $1::bytea)
  AND (kind, tenant_id, id) > ($2::bigint, $3::bigint, $4::bigint)
ORDER BY kind, tenant_id, id
LIMIT $5
