SELECT id
FROM event
WHERE tenant_id = $1 AND id = ANY ($2) AND accepted_at < $3
ORDER BY id
FOR UPDATE SKIP LOCKED
