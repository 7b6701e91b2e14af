SELECT id
FROM event
WHERE tenant_id = $1 AND id = ANY ($2)
ORDER BY id
FOR KEY SHARE
