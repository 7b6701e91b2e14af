-- $1 sequence, $2 count. The lock makes one step of the two that a block takes; it is held until the transaction ends, so
-- that identifiers which are taken in a transaction are in the order of the commits.
WITH alone AS MATERIALIZED (
    SELECT pg_advisory_xact_lock(723801734, hashtext($1::text))
)
SELECT setval($1::text::regclass, nextval($1::text::regclass) + $2::bigint - 1)
FROM alone
