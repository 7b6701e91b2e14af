-- An empty head is none's.
SELECT kind, tenant_id, id, sealed
FROM (
    SELECT 0 AS kind, id AS tenant_id, id, jwt_secret AS sealed FROM tenant
    UNION ALL
    SELECT 1, tenant_id, id, sealed FROM secret WHERE sealed IS NOT NULL
    UNION ALL
    SELECT 2, tenant_id, id, sealed_key FROM secret WHERE sealed_key IS NOT NULL
)
WHERE (length(:head) = 0 OR substr(sealed, 1, length(:head)) <> :head)
  AND (kind, tenant_id, id) > (:kind, :tenant_id, :id)
ORDER BY kind, tenant_id, id
LIMIT :limit
