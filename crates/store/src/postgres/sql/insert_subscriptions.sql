-- $1 tenant, $2 endpoint, $3 event types in order, $4 since when each
INSERT INTO subscription (tenant_id, endpoint_id, event_type, position, added_at)
SELECT $1::bigint, $2::bigint, event_type, position, added_at
FROM unnest($3::text[], $4::bigint[]) WITH ORDINALITY AS enabled (event_type, added_at, position)
