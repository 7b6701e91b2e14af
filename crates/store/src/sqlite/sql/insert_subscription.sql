INSERT INTO subscription (endpoint_id, event_type, position, added_at)
VALUES (:endpoint_id, :event_type, :position, :at)
