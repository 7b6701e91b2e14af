-- Replaces a key that no longer counts: one that does was found before.
INSERT OR REPLACE INTO idempotency
    (tenant_id, key, request_hash, event_id, event_type, created, endpoint_count, kept_at)
VALUES
    (:tenant_id, :key, :request_hash, :event_id, :event_type, :created, :endpoint_count, :at)
