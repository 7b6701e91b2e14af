-- $1 id, $2 seconds of its lease, $3 whether it may sign, $4 for how many seconds, $5 the version that it has applied.
-- The database's clock is asked once, as microseconds go out.
UPDATE node
SET lease_until = clock.now + make_interval(secs => $2),
    signs_until = CASE WHEN $3 THEN clock.now + make_interval(secs => $4) ELSE signs_until END,
    applied_version = $5
FROM (SELECT clock_timestamp() AS now) AS clock
WHERE id = $1
RETURNING (extract(epoch FROM clock.now) * 1000000)::bigint AS now
