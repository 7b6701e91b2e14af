-- $1 tenant, $2 events, $3 before
WITH gone AS (
    DELETE FROM delivery
    WHERE tenant_id = $1 AND event_id = ANY ($2)
      AND (finished_at < $3 OR NOT EXISTS (
          SELECT FROM endpoint
          WHERE endpoint.tenant_id = delivery.tenant_id AND endpoint.id = endpoint_id
      ))
    RETURNING 1
)
SELECT count(*) FROM gone
