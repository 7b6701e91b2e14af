DELETE FROM event
WHERE id = :event_id AND accepted_at < :before
  AND NOT EXISTS (SELECT 1 FROM delivery WHERE event_id = :event_id)
