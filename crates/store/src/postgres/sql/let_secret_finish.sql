-- From current to grace, or to a grace with another end.
UPDATE secret SET standing = 1, grace_until = $3
WHERE tenant_id = $1 AND id = $2 AND standing IN (0, 1)
