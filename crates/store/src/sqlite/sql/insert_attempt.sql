INSERT INTO attempt
    (id, tenant_id, endpoint_id, event_id, delivery_id, attempt_number, trigger, sent_at, duration_us, next_retry,
     peer_address, signature, response_status, error_cause, error_detail, response_body)
VALUES
    (:id, :tenant_id, :endpoint_id, :event_id, :delivery_id, :attempt_number, :trigger, :sent_at, :duration_us, :next_retry,
     :peer_address, :signature, :response_status, :error_cause, :error_detail, :response_body)
