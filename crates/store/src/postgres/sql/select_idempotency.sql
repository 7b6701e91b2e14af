-- $1 tenant, $2 event, $3 key, $4 request's hash, $5 the time before which a key doesn't count
SELECT asked.event_id AS asked_event, kept.request_hash = asked.request_hash AS is_same,
    kept.event_id, kept.event_type, kept.created, kept.endpoint_count
FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bytea[], $5::bigint[])
        AS asked (tenant_id, event_id, key, request_hash, not_before)
    JOIN idempotency AS kept ON kept.tenant_id = asked.tenant_id AND kept.key = asked.key
WHERE kept.event_id <> asked.event_id AND kept.kept_at >= asked.not_before
