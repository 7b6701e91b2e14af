INSERT INTO audit (id, tenant_id, at, actor, address, action, subject)
VALUES (:id, :tenant_id, :at, :actor, :address, :action, :subject)
