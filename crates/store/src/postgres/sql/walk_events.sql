-- $1 tenant, $2 after this event, $3 before, $4 limit. Events from the oldest on, with whether a purge has work there: a
-- delivery that ended long ago, or one whose endpoint is gone, or no delivery at all.
SELECT event.id, event.accepted_at < $3 AS is_old, (
    EXISTS (
        SELECT FROM delivery
        WHERE delivery.tenant_id = event.tenant_id AND event_id = event.id
          AND (finished_at < $3 OR NOT EXISTS (
              SELECT FROM endpoint
              WHERE endpoint.tenant_id = delivery.tenant_id AND endpoint.id = endpoint_id
          ))
    )
    OR NOT EXISTS (SELECT FROM delivery WHERE delivery.tenant_id = event.tenant_id AND event_id = event.id)
) AS has_work
FROM event
WHERE event.tenant_id = $1 AND event.id > $2
ORDER BY event.id
LIMIT $4
