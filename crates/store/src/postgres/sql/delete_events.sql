DELETE FROM event
WHERE tenant_id = $1 AND id = ANY ($2)
  AND NOT EXISTS (SELECT FROM delivery WHERE delivery.tenant_id = event.tenant_id AND event_id = event.id)
