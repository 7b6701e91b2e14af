-- $1 tenant, $2 endpoint, $3 deliveries, $4 the event of each, $5 time
INSERT INTO delivery (tenant_id, id, endpoint_id, event_id, trigger, status, due_at, created_at)
SELECT $1::bigint, id, $2::bigint, event_id, 1, 0, $5::bigint, $5::bigint
FROM unnest($3::bigint[], $4::bigint[]) AS owed (id, event_id)
