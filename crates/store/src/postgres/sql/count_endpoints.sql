SELECT count(*)
FROM endpoint
WHERE tenant_id = $1 AND deleted_at IS NULL
  AND ($2::text IS NULL OR strpos(lower(target COLLATE "C"), lower($2::text COLLATE "C")) > 0)
