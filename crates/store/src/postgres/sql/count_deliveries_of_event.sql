SELECT count(*)
FROM delivery
WHERE tenant_id = $1 AND event_id = $2
  AND EXISTS (
      SELECT FROM endpoint
      WHERE endpoint.tenant_id = $1 AND endpoint.id = delivery.endpoint_id AND deleted_at IS NULL
  )
