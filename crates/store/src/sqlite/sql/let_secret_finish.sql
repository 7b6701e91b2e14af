-- From current to grace, or to a grace with another end.
UPDATE secret SET standing = 1, grace_until = :until
WHERE id = :id AND standing IN (0, 1)
