-- Without its ORDER BY, which the query names. In the collation C, lower() folds ASCII alone.
SELECT id, tenant_id, created_at, updated_at, is_active, ssl_cert_verification, target, description,
    signature_algorithms,
    ARRAY(
        SELECT event_type FROM subscription
        WHERE subscription.tenant_id = endpoint.tenant_id AND endpoint_id = endpoint.id
        ORDER BY position
    ) AS event_types,
    ARRAY(
        SELECT added_at FROM subscription
        WHERE subscription.tenant_id = endpoint.tenant_id AND endpoint_id = endpoint.id
        ORDER BY position
    ) AS added_at
FROM endpoint
WHERE tenant_id = $1 AND deleted_at IS NULL
  AND ($2::text IS NULL OR strpos(lower(target COLLATE "C"), lower($2::text COLLATE "C")) > 0)
