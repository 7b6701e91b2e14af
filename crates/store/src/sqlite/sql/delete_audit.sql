DELETE FROM audit
WHERE id IN (SELECT id FROM audit WHERE at < :before ORDER BY at LIMIT :limit)
