SELECT id, at, actor, address, action, subject
FROM audit
WHERE tenant_id = $1
ORDER BY id
