-- What Postrider promised, and to whom, for many nodes.
--
-- Every key begins with the tenant, so that the tables can be spread by tenant over several databases; what stands
-- without one belongs to the instance. Times are microseconds since 1970-01-01T00:00:00Z, except those of leases, which
-- only the database's own clock sets and reads. What a receiver, a publisher or an admin wrote in words of
-- their own is BYTEA: no byte of it can break a row, not even the one character that TEXT refuses. Identifiers come from the sequences, and are unique in the instance.
--
-- Small numbers stand for:
--   delivery.status   0 pending, 1 leased, 2 delivered, 3 failed, 4 cancelled
--   trigger           0 schedule, 1 resend
--   secret.standing   0 current, 1 grace, 2 expired

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value BYTEA NOT NULL
);

CREATE SEQUENCE tenant_ids;
CREATE SEQUENCE user_ids;
CREATE SEQUENCE token_ids;
CREATE SEQUENCE endpoint_ids;
CREATE SEQUENCE secret_ids;
CREATE SEQUENCE event_ids;
CREATE SEQUENCE delivery_ids;
CREATE SEQUENCE attempt_ids;
CREATE SEQUENCE audit_ids;
CREATE SEQUENCE life_ids;

-- How often a directory, or what a cache of credentials is made of, was changed. One row, locked by whoever changes
-- something until that is committed: a sequence would let a later number be seen before an earlier one.
CREATE TABLE directory (
    only_one BOOLEAN PRIMARY KEY DEFAULT TRUE CONSTRAINT there_is_one_directory CHECK (only_one),
    version  BIGINT  NOT NULL
);

INSERT INTO directory (version) VALUES (0);

-- The living nodes, and the dead that nobody has noticed yet. Its id is the lease, and never used again.
CREATE TABLE node (
    id              BIGINT      PRIMARY KEY,
    lease_until     TIMESTAMPTZ NOT NULL,
    signs_until     TIMESTAMPTZ NOT NULL,
    applied_version BIGINT      NOT NULL,
    CONSTRAINT nobody_signs_beyond_its_lease CHECK (signs_until <= lease_until)
);

CREATE TABLE tenant (
    id         BIGINT PRIMARY KEY,
    name       TEXT   NOT NULL CONSTRAINT tenant_names_are_unique UNIQUE,
    jwt_secret BYTEA  NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE "user" (
    tenant_id     BIGINT  NOT NULL REFERENCES tenant (id),
    id            BIGINT  NOT NULL CONSTRAINT user_ids_are_unique UNIQUE,
    name          TEXT    NOT NULL CONSTRAINT user_names_are_unique UNIQUE,
    role          TEXT    NOT NULL,
    password_hash TEXT    NOT NULL,
    is_active     BOOLEAN NOT NULL,
    created_at    BIGINT  NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

CREATE TABLE token (
    tenant_id  BIGINT NOT NULL REFERENCES tenant (id),
    id         BIGINT NOT NULL,
    user_id    BIGINT,
    name       TEXT   NOT NULL,
    role       TEXT   NOT NULL,
    hash       BYTEA  NOT NULL CONSTRAINT token_hashes_are_unique UNIQUE,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT hash_is_sha256 CHECK (length(hash) = 32),
    CONSTRAINT user_is_of_the_tokens_tenant FOREIGN KEY (tenant_id, user_id) REFERENCES "user" (tenant_id, id)
);

CREATE TABLE event_type (
    tenant_id   BIGINT NOT NULL REFERENCES tenant (id),
    name        TEXT   NOT NULL,
    position    BIGINT NOT NULL,
    description BYTEA  NOT NULL,
    created_at  BIGINT NOT NULL,
    retired_at  BIGINT,
    PRIMARY KEY (tenant_id, name),
    CONSTRAINT positions_are_unique UNIQUE (tenant_id, position)
);

-- A claim knows the endpoint alone, and finds its tenant by the id.
CREATE TABLE endpoint (
    tenant_id             BIGINT  NOT NULL REFERENCES tenant (id),
    id                    BIGINT  NOT NULL CONSTRAINT endpoint_ids_are_unique UNIQUE,
    created_at            BIGINT  NOT NULL,
    updated_at            BIGINT  NOT NULL,
    deleted_at            BIGINT,
    is_active             BOOLEAN NOT NULL,
    ssl_cert_verification BOOLEAN NOT NULL,
    target                TEXT    NOT NULL,
    description           BYTEA   NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

CREATE INDEX endpoint_deleted ON endpoint (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE subscription (
    tenant_id   BIGINT NOT NULL,
    endpoint_id BIGINT NOT NULL,
    event_type  TEXT   NOT NULL,
    position    BIGINT NOT NULL,
    added_at    BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, endpoint_id, event_type),
    FOREIGN KEY (tenant_id, endpoint_id) REFERENCES endpoint (tenant_id, id)
);

CREATE TABLE secret (
    tenant_id   BIGINT   NOT NULL,
    id          BIGINT   NOT NULL,
    endpoint_id BIGINT   NOT NULL,
    standing    SMALLINT NOT NULL CONSTRAINT standing_is_known CHECK (standing IN (0, 1, 2)),
    grace_until BIGINT,
    sealed      BYTEA,
    created_at  BIGINT   NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, endpoint_id) REFERENCES endpoint (tenant_id, id),
    CONSTRAINT grace_has_an_end_iff_it_runs CHECK ((standing = 1) = (grace_until IS NOT NULL)),
    CONSTRAINT wiped_iff_expired CHECK ((standing = 2) = (sealed IS NULL))
);

CREATE INDEX secret_of_endpoint ON secret (tenant_id, endpoint_id);
CREATE UNIQUE INDEX one_secret_is_current ON secret (tenant_id, endpoint_id) WHERE standing = 0;
CREATE INDEX secret_in_grace ON secret (grace_until) WHERE standing = 1;

-- The three tables that grow with traffic refer to each other without foreign keys: each would cost a look-up and a lock
-- per row, and an index that nothing else needs. The verbs keep what the keys would: a delivery is inserted only where
-- its endpoint is, and an event goes only when no delivery refers to it.

CREATE TABLE event (
    tenant_id   BIGINT           NOT NULL,
    id          BIGINT           NOT NULL,
    event_type  TEXT             NOT NULL,
    created     DOUBLE PRECISION NOT NULL,
    accepted_at BIGINT           NOT NULL,
    payload     BYTEA            NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

CREATE TABLE delivery (
    tenant_id     BIGINT   NOT NULL,
    id            BIGINT   NOT NULL,
    endpoint_id   BIGINT   NOT NULL,
    event_id      BIGINT   NOT NULL,
    trigger       SMALLINT NOT NULL CONSTRAINT delivery_trigger_is_known CHECK (trigger IN (0, 1)),
    status        SMALLINT NOT NULL CONSTRAINT status_is_known CHECK (status IN (0, 1, 2, 3, 4)),
    attempts_made INTEGER  NOT NULL DEFAULT 0,
    due_at        BIGINT   NOT NULL,
    lease         BIGINT,
    created_at    BIGINT   NOT NULL,
    finished_at   BIGINT,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT lease_iff_leased CHECK ((status = 1) = (lease IS NOT NULL)),
    CONSTRAINT finished_iff_final CHECK ((status >= 2) = (finished_at IS NOT NULL))
);

CREATE INDEX delivery_pending ON delivery (tenant_id, endpoint_id, due_at, id) WHERE status = 0;
-- The one index that doesn't begin with the tenant: what a dead node held is found by its lease. It is as small as what
-- is in flight.
CREATE INDEX delivery_leased ON delivery (lease, tenant_id, endpoint_id, id) WHERE status = 1;
CREATE INDEX delivery_of_event ON delivery (tenant_id, event_id);

CREATE TABLE attempt (
    tenant_id       BIGINT   NOT NULL,
    id              BIGINT   NOT NULL,
    endpoint_id     BIGINT   NOT NULL,
    event_id        BIGINT   NOT NULL,
    delivery_id     BIGINT   NOT NULL,
    attempt_number  INTEGER  NOT NULL CONSTRAINT attempts_count_from_one CHECK (attempt_number >= 1),
    trigger         SMALLINT NOT NULL CONSTRAINT attempt_trigger_is_known CHECK (trigger IN (0, 1)),
    sent_at         BIGINT   NOT NULL,
    duration_us     BIGINT   NOT NULL,
    next_retry      BIGINT,
    peer_address    TEXT,
    signature       TEXT     NOT NULL,
    response_status INTEGER,
    error_cause     TEXT,
    error_detail    BYTEA,
    response_body   BYTEA,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT answered_or_failed CHECK ((response_status IS NULL) <> (error_cause IS NULL)),
    CONSTRAINT body_iff_answered CHECK ((response_body IS NULL) = (response_status IS NULL)),
    CONSTRAINT detail_iff_failed CHECK ((error_detail IS NULL) = (error_cause IS NULL))
);

-- The pages of an endpoint's attempts, in every order that may be asked for, are found in this index alone; only the
-- rows of the page itself are then read.
CREATE INDEX attempt_of_endpoint ON attempt (tenant_id, endpoint_id, sent_at DESC, id ASC, next_retry);

-- How many attempts an endpoint has, so that nobody needs to count them: the sum over a few slots, so that those who
-- write at the same time don't wait for each other's commits.
CREATE TABLE attempt_count (
    tenant_id   BIGINT   NOT NULL,
    endpoint_id BIGINT   NOT NULL,
    slot        SMALLINT NOT NULL,
    count       BIGINT   NOT NULL,
    PRIMARY KEY (tenant_id, endpoint_id, slot)
) WITH (fillfactor = 50);

CREATE TABLE idempotency (
    tenant_id      BIGINT           NOT NULL,
    key            TEXT             NOT NULL,
    request_hash   BYTEA            NOT NULL,
    event_id       BIGINT           NOT NULL,
    event_type     TEXT             NOT NULL,
    created        DOUBLE PRECISION NOT NULL,
    endpoint_count BIGINT           NOT NULL,
    kept_at        BIGINT           NOT NULL,
    PRIMARY KEY (tenant_id, key)
);

CREATE INDEX idempotency_by_age ON idempotency (kept_at);

CREATE TABLE audit (
    tenant_id BIGINT NOT NULL,
    id        BIGINT NOT NULL,
    at        BIGINT NOT NULL,
    actor     TEXT   NOT NULL,
    address   TEXT,
    action    TEXT   NOT NULL,
    subject   TEXT   NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

-- A delivery is rewritten twice in its life, and claims read past what the rewriting left behind: it is cleaned up before
-- that is a fifth of the table, which is what Postgres would wait for.
ALTER TABLE delivery SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);
ALTER TABLE attempt_count SET (autovacuum_vacuum_scale_factor = 0.02);
