INSERT INTO event (id, tenant_id, event_type, created, accepted_at, payload)
VALUES (?1, ?2, ?3, ?4, ?5, ?6)
