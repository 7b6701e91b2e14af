-- Events: $1 tenant, $2 id, $3 type, $4 created, $5 accepted, $6 payload, $7 directory; $8 key, $9 its request's hash,
-- $10 the time before which it doesn't count, $11 number of endpoints. Deliveries: $12 tenant, $13 id, $14 endpoint,
-- $15 event, $16 status, $17 lease, $18 time, $19 directory, $20 whether the event has a key; $21 trigger of them all.
--
-- Everything here sees the directory and the endpoints at one moment, which is after the publish was asked for.
WITH current AS MATERIALIZED (
    SELECT version FROM directory
),
asked AS MATERIALIZED (
    SELECT *
    FROM unnest(
        $1::bigint[], $2::bigint[], $3::text[], $4::double precision[], $5::bigint[], $6::bytea[], $7::bigint[],
        $8::text[], $9::bytea[], $10::bigint[], $11::bigint[]
    ) AS asked (
        tenant_id, id, event_type, created, accepted_at, payload, directory,
        key, request_hash, not_before, endpoint_count
    )
    WHERE asked.directory >= (SELECT version FROM current)
),
-- Waits for another request with the same key that isn't committed yet, and replaces one that no longer counts.
kept AS (
    INSERT INTO idempotency AS earlier
        (tenant_id, key, request_hash, event_id, event_type, created, endpoint_count, kept_at)
    SELECT tenant_id, key, request_hash, id, event_type, created, endpoint_count, accepted_at
    FROM asked
    WHERE key IS NOT NULL
    ON CONFLICT (tenant_id, key) DO UPDATE
    SET request_hash = excluded.request_hash,
        event_id = excluded.event_id,
        event_type = excluded.event_type,
        created = excluded.created,
        endpoint_count = excluded.endpoint_count,
        kept_at = excluded.kept_at
    WHERE earlier.kept_at < (
        SELECT min(not_before) FROM asked WHERE asked.tenant_id = excluded.tenant_id AND asked.key = excluded.key
    )
    RETURNING event_id
),
fresh AS (
    INSERT INTO event (tenant_id, id, event_type, created, accepted_at, payload)
    SELECT tenant_id, id, event_type, created, accepted_at, payload
    FROM asked
    WHERE key IS NULL OR id IN (SELECT event_id FROM kept)
    RETURNING id
),
-- Inserts nothing for an endpoint that is deleted, gone, or another tenant's. One that is deleted in this very moment may
-- get an orphan, which no claim takes and no attempt is recorded of.
owed AS (
    INSERT INTO delivery (tenant_id, id, endpoint_id, event_id, trigger, status, due_at, lease, created_at)
    SELECT owed.tenant_id, owed.id, owed.endpoint_id, owed.event_id, $21::smallint, owed.status, owed.at, owed.lease,
        owed.at
    FROM unnest(
        $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::smallint[], $17::bigint[], $18::bigint[],
        $19::bigint[], $20::boolean[]
    ) AS owed (tenant_id, id, endpoint_id, event_id, status, lease, at, directory, has_key)
        JOIN endpoint ON endpoint.tenant_id = owed.tenant_id AND endpoint.id = owed.endpoint_id
    WHERE endpoint.deleted_at IS NULL
      AND owed.directory >= (SELECT version FROM current)
      AND (NOT owed.has_key OR owed.event_id IN (SELECT event_id FROM kept))
)
SELECT id FROM fresh
