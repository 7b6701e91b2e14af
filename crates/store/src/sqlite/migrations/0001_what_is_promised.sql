-- What Postrider promised, and to whom.
--
-- Times are microseconds since 1970-01-01T00:00:00Z. What a receiver or a publisher wrote is BLOB, so that no byte of it
-- can break a row. Identifiers come from id_block and never from the rowid, which SQLite hands out again after a delete;
-- they are unique in the instance.
--
-- Small numbers stand for:
--   delivery.status   0 pending, 1 leased, 2 delivered, 3 failed, 4 cancelled
--   trigger           0 schedule, 1 resend
--   secret.standing   0 current, 1 grace, 2 expired

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- The next free identifier of each kind. A row appears with its kind's first identifier, which is 1.
CREATE TABLE id_block (
    kind TEXT PRIMARY KEY,
    next INTEGER NOT NULL CONSTRAINT ids_begin_at_one CHECK (next > 1)
) STRICT, WITHOUT ROWID;

CREATE TABLE tenant (
    id         INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL CONSTRAINT tenant_names_are_unique UNIQUE,
    jwt_secret BLOB    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE user (
    id            INTEGER PRIMARY KEY,
    tenant_id     INTEGER NOT NULL REFERENCES tenant (id),
    name          TEXT    NOT NULL CONSTRAINT user_names_are_unique UNIQUE,
    role          TEXT    NOT NULL,
    password_hash TEXT    NOT NULL,
    is_active     INTEGER NOT NULL CONSTRAINT user_is_active_or_not CHECK (is_active IN (0, 1)),
    created_at    INTEGER NOT NULL,
    -- Lists a tenant's users, and lets a token refer to a user of its own tenant alone.
    CONSTRAINT user_is_of_one_tenant UNIQUE (tenant_id, id)
) STRICT;

CREATE TABLE token (
    id         INTEGER PRIMARY KEY,
    tenant_id  INTEGER NOT NULL REFERENCES tenant (id),
    user_id    INTEGER,
    name       TEXT    NOT NULL,
    role       TEXT    NOT NULL,
    hash       BLOB    NOT NULL CONSTRAINT token_hashes_are_unique UNIQUE,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    CONSTRAINT hash_is_sha256 CHECK (length(hash) = 32),
    CONSTRAINT user_is_of_the_tokens_tenant
        FOREIGN KEY (tenant_id, user_id) REFERENCES user (tenant_id, id)
) STRICT;

CREATE INDEX token_of_tenant ON token (tenant_id);

CREATE TABLE event_type (
    tenant_id   INTEGER NOT NULL REFERENCES tenant (id),
    name        TEXT    NOT NULL,
    position    INTEGER NOT NULL,
    description TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    retired_at  INTEGER,
    PRIMARY KEY (tenant_id, name),
    CONSTRAINT positions_are_unique UNIQUE (tenant_id, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE endpoint (
    id                    INTEGER PRIMARY KEY,
    tenant_id             INTEGER NOT NULL REFERENCES tenant (id),
    created_at            INTEGER NOT NULL,
    updated_at            INTEGER NOT NULL,
    deleted_at            INTEGER,
    is_active             INTEGER NOT NULL CONSTRAINT endpoint_is_active_or_not CHECK (is_active IN (0, 1)),
    ssl_cert_verification INTEGER NOT NULL
        CONSTRAINT certificate_is_checked_or_not CHECK (ssl_cert_verification IN (0, 1)),
    target                TEXT    NOT NULL,
    description           TEXT    NOT NULL
) STRICT;

CREATE INDEX endpoint_of_tenant ON endpoint (tenant_id) WHERE deleted_at IS NULL;
CREATE INDEX endpoint_deleted ON endpoint (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE subscription (
    endpoint_id INTEGER NOT NULL REFERENCES endpoint (id),
    event_type  TEXT    NOT NULL,
    position    INTEGER NOT NULL,
    added_at    INTEGER NOT NULL,
    PRIMARY KEY (endpoint_id, event_type)
) STRICT, WITHOUT ROWID;

CREATE TABLE secret (
    id          INTEGER PRIMARY KEY,
    tenant_id   INTEGER NOT NULL,
    endpoint_id INTEGER NOT NULL REFERENCES endpoint (id),
    standing    INTEGER NOT NULL CONSTRAINT standing_is_known CHECK (standing IN (0, 1, 2)),
    grace_until INTEGER,
    sealed      BLOB,
    created_at  INTEGER NOT NULL,
    CONSTRAINT grace_has_an_end_iff_it_runs CHECK ((standing = 1) = (grace_until IS NOT NULL)),
    CONSTRAINT wiped_iff_expired CHECK ((standing = 2) = (sealed IS NULL))
) STRICT;

CREATE INDEX secret_of_endpoint ON secret (endpoint_id);
CREATE UNIQUE INDEX one_secret_is_current ON secret (endpoint_id) WHERE standing = 0;
CREATE INDEX secret_in_grace ON secret (grace_until) WHERE standing = 1;

-- The three tables that grow with traffic refer to each other without foreign keys: each would cost a look-up per row,
-- and an index that nothing else needs. The verbs keep what the keys would: a delivery is inserted only where its
-- endpoint is, and an event goes only when no delivery refers to it.

CREATE TABLE event (
    id          INTEGER PRIMARY KEY,
    tenant_id   INTEGER NOT NULL,
    event_type  TEXT    NOT NULL,
    created     REAL    NOT NULL,
    accepted_at INTEGER NOT NULL,
    payload     BLOB    NOT NULL
) STRICT;

CREATE TABLE delivery (
    id            INTEGER PRIMARY KEY,
    tenant_id     INTEGER NOT NULL,
    endpoint_id   INTEGER NOT NULL,
    event_id      INTEGER NOT NULL,
    trigger       INTEGER NOT NULL CONSTRAINT delivery_trigger_is_known CHECK (trigger IN (0, 1)),
    status        INTEGER NOT NULL CONSTRAINT status_is_known CHECK (status IN (0, 1, 2, 3, 4)),
    attempts_made INTEGER NOT NULL DEFAULT 0,
    due_at        INTEGER NOT NULL,
    lease         INTEGER,
    created_at    INTEGER NOT NULL,
    finished_at   INTEGER,
    CONSTRAINT lease_iff_leased CHECK ((status = 1) = (lease IS NOT NULL)),
    CONSTRAINT finished_iff_final CHECK ((status >= 2) = (finished_at IS NOT NULL))
) STRICT;

-- An index of a rowid table ends in the rowid: here, in the delivery's id, by which equal due times are ordered.
CREATE INDEX delivery_pending ON delivery (endpoint_id, due_at) WHERE status = 0;
CREATE INDEX delivery_leased ON delivery (endpoint_id) WHERE status = 1;
CREATE INDEX delivery_of_event ON delivery (event_id);

CREATE TABLE attempt (
    id              INTEGER PRIMARY KEY,
    tenant_id       INTEGER NOT NULL,
    endpoint_id     INTEGER NOT NULL,
    event_id        INTEGER NOT NULL,
    delivery_id     INTEGER NOT NULL,
    attempt_number  INTEGER NOT NULL CONSTRAINT attempts_count_from_one CHECK (attempt_number >= 1),
    trigger         INTEGER NOT NULL CONSTRAINT attempt_trigger_is_known CHECK (trigger IN (0, 1)),
    sent_at         INTEGER NOT NULL,
    duration_us     INTEGER NOT NULL,
    next_retry      INTEGER,
    peer_address    TEXT,
    signature       TEXT    NOT NULL,
    response_status INTEGER,
    error_cause     TEXT,
    error_detail    TEXT,
    response_body   BLOB,
    CONSTRAINT answered_or_failed CHECK ((response_status IS NULL) <> (error_cause IS NULL)),
    CONSTRAINT body_iff_answered CHECK ((response_body IS NULL) = (response_status IS NULL)),
    CONSTRAINT detail_iff_failed CHECK ((error_detail IS NULL) = (error_cause IS NULL))
) STRICT;

-- The pages of an endpoint's attempts, in every order that may be asked for, are found in this index alone; only the
-- rows of the page itself are then read.
CREATE INDEX attempt_of_endpoint ON attempt (endpoint_id, sent_at DESC, id ASC, next_retry);

-- How many attempts an endpoint has, so that nobody needs to count them. On SQLite the node is always 0.
CREATE TABLE attempt_count (
    endpoint_id INTEGER NOT NULL,
    node        INTEGER NOT NULL,
    count       INTEGER NOT NULL,
    PRIMARY KEY (endpoint_id, node)
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency (
    tenant_id      INTEGER NOT NULL,
    key            TEXT    NOT NULL,
    request_hash   BLOB    NOT NULL,
    event_id       INTEGER NOT NULL,
    event_type     TEXT    NOT NULL,
    created        REAL    NOT NULL,
    endpoint_count INTEGER NOT NULL,
    kept_at        INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_by_age ON idempotency (kept_at);

CREATE TABLE audit (
    id        INTEGER PRIMARY KEY,
    tenant_id INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    actor     TEXT    NOT NULL,
    address   TEXT,
    action    TEXT    NOT NULL,
    subject   TEXT    NOT NULL
) STRICT;

CREATE INDEX audit_of_tenant ON audit (tenant_id);
