-- $1 before, $2 limit, $3 slot. By endpoint, since that is how attempts are indexed.
WITH found AS MATERIALIZED (
    SELECT old.tenant_id, old.id
    FROM (SELECT DISTINCT tenant_id, endpoint_id FROM attempt_count) AS counted CROSS JOIN LATERAL (
        SELECT tenant_id, id
        FROM attempt
        WHERE attempt.tenant_id = counted.tenant_id AND attempt.endpoint_id = counted.endpoint_id AND sent_at < $1
        LIMIT $2
        FOR UPDATE SKIP LOCKED
    ) AS old
    LIMIT $2
),
gone AS (
    DELETE FROM attempt USING found
    WHERE attempt.tenant_id = found.tenant_id AND attempt.id = found.id
    RETURNING attempt.tenant_id, attempt.endpoint_id
),
counted_off AS (
    INSERT INTO attempt_count AS known (tenant_id, endpoint_id, slot, count)
    SELECT tenant_id, endpoint_id, $3::smallint, -count(*)
    FROM gone
    GROUP BY tenant_id, endpoint_id
    ORDER BY tenant_id, endpoint_id
    ON CONFLICT (tenant_id, endpoint_id, slot) DO UPDATE SET count = known.count + excluded.count
)
SELECT count(*) FROM gone
