-- By endpoint, since that is how attempts are indexed; CROSS JOIN keeps the planner to that order.
SELECT attempt.id
FROM attempt_count CROSS JOIN attempt ON attempt.endpoint_id = attempt_count.endpoint_id
WHERE sent_at < :before
LIMIT :limit
