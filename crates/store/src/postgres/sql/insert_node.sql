-- $1 id, $2 seconds of its lease, $3 how many migrations it knows. It may not sign yet.
INSERT INTO node (id, lease_until, signs_until, applied_version, knows_migrations)
VALUES ($1, clock_timestamp() + make_interval(secs => $2), clock_timestamp(), 0, $3)
