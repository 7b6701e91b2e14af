SELECT request_hash, event_id, event_type, created, endpoint_count
FROM idempotency
WHERE tenant_id = :tenant_id AND key = :key AND kept_at >= :not_before
