SELECT id, at, actor, address, action, subject
FROM audit
WHERE tenant_id = :tenant_id
ORDER BY id
