-- $1 id, $2 seconds of its lease. It may not sign yet.
INSERT INTO node (id, lease_until, signs_until, applied_version)
VALUES ($1, clock_timestamp() + make_interval(secs => $2), clock_timestamp(), 0)
