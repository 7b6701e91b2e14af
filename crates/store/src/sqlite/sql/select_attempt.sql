-- The second half of a page: one row of it, with what it carried.
SELECT attempt.id, event_id, event_type, accepted_at, payload, delivery_id, attempt_number, trigger, sent_at,
    duration_us, next_retry, peer_address, signature, response_status, error_cause, error_detail, response_body
FROM attempt JOIN event ON event.id = event_id
WHERE attempt.id = :id
