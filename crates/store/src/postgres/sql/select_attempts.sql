-- The second half of a page: its rows in the order of their ids in $2, each with what it carried.
SELECT attempt.id, event_id, event_type, accepted_at, payload, delivery_id, attempt_number, trigger, sent_at,
    duration_us, next_retry, peer_address, signature, response_status, error_cause, error_detail, response_body
FROM attempt JOIN event ON event.tenant_id = attempt.tenant_id AND event.id = event_id
WHERE attempt.tenant_id = $1 AND attempt.id = ANY ($2)
ORDER BY array_position($2, attempt.id)
