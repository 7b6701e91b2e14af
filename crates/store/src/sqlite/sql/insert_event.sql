INSERT INTO event (id, tenant_id, event_type, created, accepted_at, payload)
VALUES (:id, :tenant_id, :event_type, :created, :accepted_at, :payload)
