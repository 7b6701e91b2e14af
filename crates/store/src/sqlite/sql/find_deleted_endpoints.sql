SELECT id FROM endpoint
WHERE deleted_at < :before
ORDER BY deleted_at
LIMIT :limit
