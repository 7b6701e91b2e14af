-- One seek for each lease that is in use, however many deliveries each has.
WITH RECURSIVE leases AS (
    (SELECT lease FROM delivery WHERE status = 1 ORDER BY lease LIMIT 1)
    UNION ALL
    SELECT (SELECT delivery.lease FROM delivery WHERE status = 1 AND delivery.lease > leases.lease ORDER BY delivery.lease LIMIT 1)
    FROM leases
    WHERE leases.lease IS NOT NULL
)
SELECT lease
FROM leases
WHERE lease IS NOT NULL AND NOT EXISTS (SELECT FROM node WHERE node.id = leases.lease)
