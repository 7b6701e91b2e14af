-- Events from the oldest on, with whether a purge has work there: a delivery that ended long ago, or one whose endpoint
-- is gone, or no delivery at all.
SELECT event.id, event.accepted_at, (
    EXISTS (
        SELECT 1 FROM delivery
        WHERE event_id = event.id
          AND (finished_at < :before OR NOT EXISTS (SELECT 1 FROM endpoint WHERE endpoint.id = endpoint_id))
    )
    OR NOT EXISTS (SELECT 1 FROM delivery WHERE event_id = event.id)
)
FROM event
WHERE event.id > :after
ORDER BY event.id
LIMIT :limit
