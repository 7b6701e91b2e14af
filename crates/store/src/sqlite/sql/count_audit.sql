SELECT count(*)
FROM audit
WHERE tenant_id = :tenant_id
  AND (:action IS NULL OR action = :action)
  AND (:actor IS NULL OR actor = :actor)
  AND (:since IS NULL OR at >= :since)
  AND (:until IS NULL OR at < :until)
