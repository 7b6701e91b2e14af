INSERT INTO attempt
    (id, tenant_id, endpoint_id, event_id, delivery_id, attempt_number, trigger, sent_at, duration_us, next_retry,
     peer_address, signature, response_status, error_cause, error_detail, response_body)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
