-- $1 id, $2 tenant, $3 endpoint, $4 event, $5 delivery, $6 lease, $7 number, $8 trigger, $9 sent, $10 duration,
-- $11 next retry, $12 peer, $13 signature, $14 response's status, $15 error's cause, $16 its detail, $17 response's body,
-- $18 the delivery's status, $19 its end; $20 slot of the counters.
WITH asked AS MATERIALIZED (
    SELECT *
    FROM unnest(
        $1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::integer[],
        $8::smallint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::text[], $13::text[], $14::integer[],
        $15::text[], $16::bytea[], $17::bytea[], $18::smallint[], $19::bigint[]
    ) AS asked (
        attempt_id, tenant_id, endpoint_id, event_id, delivery_id, lease, attempt_number, trigger, sent_at, duration_us,
        next_retry, peer_address, signature, response_status, error_cause, error_detail, response_body,
        new_status, new_finished_at
    )
),
-- The fence: whoever lost the lease, or whose endpoint was deleted meanwhile, changes nothing.
settled AS (
    UPDATE delivery
    SET status = asked.new_status,
        due_at = coalesce(asked.next_retry, delivery.due_at),
        attempts_made = asked.attempt_number,
        lease = NULL,
        finished_at = asked.new_finished_at
    FROM asked
    WHERE delivery.tenant_id = asked.tenant_id AND delivery.id = asked.delivery_id
      AND delivery.status = 1 AND delivery.lease = asked.lease
      AND delivery.endpoint_id = asked.endpoint_id AND delivery.event_id = asked.event_id
      AND EXISTS (
          SELECT FROM endpoint
          WHERE endpoint.tenant_id = asked.tenant_id AND endpoint.id = asked.endpoint_id AND deleted_at IS NULL
      )
    RETURNING asked.*
),
written AS (
    INSERT INTO attempt
        (tenant_id, id, endpoint_id, event_id, delivery_id, attempt_number, trigger, sent_at, duration_us, next_retry,
         peer_address, signature, response_status, error_cause, error_detail, response_body)
    SELECT tenant_id, attempt_id, endpoint_id, event_id, delivery_id, attempt_number, trigger, sent_at, duration_us,
        next_retry, peer_address, signature, response_status, error_cause, error_detail, response_body
    FROM settled
),
counted AS (
    INSERT INTO attempt_count AS known (tenant_id, endpoint_id, slot, count)
    SELECT tenant_id, endpoint_id, $20::smallint, count(*)
    FROM settled
    GROUP BY tenant_id, endpoint_id
    ORDER BY tenant_id, endpoint_id
    ON CONFLICT (tenant_id, endpoint_id, slot) DO UPDATE SET count = known.count + excluded.count
)
SELECT attempt_id AS id
FROM settled
UNION ALL
SELECT asked.attempt_id
FROM asked
WHERE asked.attempt_id NOT IN (SELECT attempt_id FROM settled)
  AND EXISTS (
      SELECT FROM attempt
      WHERE attempt.tenant_id = asked.tenant_id AND attempt.id = asked.attempt_id
        AND attempt.delivery_id = asked.delivery_id
  )
