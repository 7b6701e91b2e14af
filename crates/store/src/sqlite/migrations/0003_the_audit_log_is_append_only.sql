-- No line of the audit log is ever changed, and none goes before its time: only a purge takes lines away, and only those
-- before the moment that it names here, in its own transaction.
CREATE TABLE audit_purge (
    before INTEGER NOT NULL
) STRICT;

CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

CREATE TRIGGER audit_is_only_purged BEFORE DELETE ON audit
WHEN NOT EXISTS (SELECT 1 FROM audit_purge WHERE OLD.at < before)
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

CREATE INDEX audit_by_age ON audit (at);
