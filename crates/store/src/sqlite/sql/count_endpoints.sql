SELECT count(*)
FROM endpoint
WHERE tenant_id = :tenant_id AND deleted_at IS NULL
  AND (:target_contains IS NULL OR instr(lower(target), lower(:target_contains)) > 0)
