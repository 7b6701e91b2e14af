-- $1 the number of a migration. Before there were two, no node told how many it knows.
SELECT EXISTS (
    SELECT FROM node
    WHERE lease_until >= clock_timestamp()
      AND coalesce((to_jsonb(node) ->> 'knows_migrations')::bigint, 1) < $1
) AS has_older
