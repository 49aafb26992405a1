-- +goose Up
-- Times are microseconds since 1970 in UTC, 0 for none. Flags are 0 or 1. JSON is text, '' for nothing.

CREATE TABLE instance (
    id                   VARCHAR(64) COLLATE "C"  NOT NULL PRIMARY KEY,
    project_id           VARCHAR(64) COLLATE "C"  NOT NULL,
    name                 VARCHAR(255) COLLATE "C" NOT NULL,
    created              BIGINT                   NOT NULL,
    updated              BIGINT                   NOT NULL,
    deleted              SMALLINT                 NOT NULL DEFAULT 0,
    deleted_at           BIGINT                   NOT NULL DEFAULT 0,
    task                 INTEGER                  NOT NULL,
    server_status        VARCHAR(32) COLLATE "C"  NOT NULL,
    datastore_version_id VARCHAR(64) COLLATE "C"  NOT NULL,
    flavor_id            VARCHAR(255) COLLATE "C" NOT NULL,
    volume_size          INTEGER                  NOT NULL,
    volume_type          VARCHAR(255) COLLATE "C" NOT NULL,
    region               VARCHAR(255) COLLATE "C" NOT NULL,
    availability_zone    VARCHAR(255) COLLATE "C" NOT NULL,
    locality             VARCHAR(64) COLLATE "C"  NOT NULL,
    hostname             VARCHAR(255) COLLATE "C" NOT NULL,
    configuration_id     VARCHAR(64) COLLATE "C"  NOT NULL,
    replica_of           VARCHAR(64) COLLATE "C"  NOT NULL,
    access               TEXT COLLATE "C"         NOT NULL,
    nics                 TEXT COLLATE "C"         NOT NULL,
    addresses            TEXT COLLATE "C"         NOT NULL,
    fault                TEXT COLLATE "C"         NOT NULL,
    compute_id           VARCHAR(255) COLLATE "C" NOT NULL,
    volume_id            VARCHAR(255) COLLATE "C" NOT NULL,
    server_id            BIGINT                   NOT NULL,
    held                 TEXT COLLATE "C"         NOT NULL,
    version              BIGINT                   NOT NULL
);
CREATE UNIQUE INDEX instance_server_id ON instance (server_id);
-- With the version a page is read from the index alone: what the version stands for is in the process's cache.
CREATE INDEX instance_page ON instance (project_id, deleted, id, version);
CREATE INDEX instance_page_all ON instance (deleted, id, version);
CREATE INDEX instance_replica_of ON instance (replica_of);

-- Written with every heartbeat, and therefore apart from the instance.
CREATE TABLE guest_state (
    instance_id   VARCHAR(64) COLLATE "C" NOT NULL PRIMARY KEY,
    service       VARCHAR(32) COLLATE "C" NOT NULL,
    service_at    BIGINT                  NOT NULL DEFAULT 0,
    seen_at       BIGINT                  NOT NULL DEFAULT 0,
    boot_id       VARCHAR(64) COLLATE "C" NOT NULL DEFAULT '',
    agent_version VARCHAR(64) COLLATE "C" NOT NULL DEFAULT '',
    engine_start  BIGINT                  NOT NULL DEFAULT 0,
    volume_used   BIGINT                  NOT NULL DEFAULT 0,
    volume_total  BIGINT                  NOT NULL DEFAULT 0
);

CREATE TABLE guest (
    instance_id     VARCHAR(64) COLLATE "C" NOT NULL PRIMARY KEY,
    public_key      VARCHAR(64) COLLATE "C" NOT NULL DEFAULT '',
    token_hash      VARCHAR(64) COLLATE "C",
    token_expires   BIGINT                  NOT NULL DEFAULT 0,
    token_used      BIGINT                  NOT NULL DEFAULT 0,
    credential_ends BIGINT                  NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX guest_token_hash ON guest (token_hash);

CREATE TABLE root_history (
    instance_id VARCHAR(64) COLLATE "C"  NOT NULL PRIMARY KEY,
    user_id     VARCHAR(255) COLLATE "C" NOT NULL,
    enabled     BIGINT                   NOT NULL,
    disabled    BIGINT                   NOT NULL
);

CREATE TABLE datastore (
    id                 VARCHAR(64) COLLATE "C"  NOT NULL PRIMARY KEY,
    name               VARCHAR(255) COLLATE "C" NOT NULL,
    default_version_id VARCHAR(64) COLLATE "C"  NOT NULL
);
CREATE UNIQUE INDEX datastore_name ON datastore (name);

CREATE TABLE datastore_version (
    id           VARCHAR(64) COLLATE "C"  NOT NULL PRIMARY KEY,
    datastore_id VARCHAR(64) COLLATE "C"  NOT NULL,
    name         VARCHAR(255) COLLATE "C" NOT NULL,
    version      VARCHAR(255) COLLATE "C" NOT NULL,
    manager      VARCHAR(255) COLLATE "C" NOT NULL,
    image_id     VARCHAR(255) COLLATE "C" NOT NULL,
    active       SMALLINT                 NOT NULL,
    packages     TEXT COLLATE "C"         NOT NULL,
    capabilities TEXT COLLATE "C"         NOT NULL,
    flavor_ids   TEXT COLLATE "C"         NOT NULL,
    volume_types TEXT COLLATE "C"         NOT NULL
);
CREATE INDEX datastore_version_datastore ON datastore_version (datastore_id);

-- A row exists from the first use or the first limit on. hard_limit is NULL where the default holds.
CREATE TABLE quota (
    project_id VARCHAR(64) COLLATE "C" NOT NULL,
    resource   VARCHAR(32) COLLATE "C" NOT NULL,
    hard_limit BIGINT,
    in_use     BIGINT                  NOT NULL DEFAULT 0,
    reserved   BIGINT                  NOT NULL DEFAULT 0,
    PRIMARY KEY (project_id, resource)
);

CREATE TABLE operation (
    id           VARCHAR(64) COLLATE "C" NOT NULL PRIMARY KEY,
    kind         VARCHAR(64) COLLATE "C" NOT NULL,
    target       VARCHAR(64) COLLATE "C" NOT NULL,
    project_id   VARCHAR(64) COLLATE "C" NOT NULL,
    request_id   VARCHAR(64) COLLATE "C" NOT NULL,
    state        VARCHAR(16) COLLATE "C" NOT NULL,
    direction    VARCHAR(8) COLLATE "C"  NOT NULL,
    step         VARCHAR(64) COLLATE "C" NOT NULL,
    step_no      INTEGER                 NOT NULL,
    steps        INTEGER                 NOT NULL,
    step_started BIGINT                  NOT NULL,
    attempt      INTEGER                 NOT NULL,
    sentence     TEXT COLLATE "C"        NOT NULL,
    percent      INTEGER                 NOT NULL,
    cancel       SMALLINT                NOT NULL,
    error        TEXT COLLATE "C"        NOT NULL,
    created      BIGINT                  NOT NULL,
    updated      BIGINT                  NOT NULL,
    deadline     BIGINT                  NOT NULL,
    version      BIGINT                  NOT NULL,
    claim        BIGINT                  NOT NULL,
    wake_at      BIGINT                  NOT NULL,
    owner        VARCHAR(64) COLLATE "C" NOT NULL,
    events       BIGINT                  NOT NULL,
    input        TEXT COLLATE "C"        NOT NULL,
    notes        TEXT COLLATE "C"        NOT NULL
);
CREATE INDEX operation_wake_at ON operation (wake_at);
CREATE INDEX operation_owner ON operation (owner);
CREATE INDEX operation_target ON operation (target, created);

-- One open operation for each instance.
CREATE TABLE operation_lock (
    target       VARCHAR(64) COLLATE "C" NOT NULL PRIMARY KEY,
    operation_id VARCHAR(64) COLLATE "C" NOT NULL
);

CREATE TABLE operation_log (
    operation_id VARCHAR(64) COLLATE "C" NOT NULL,
    seq          BIGINT                  NOT NULL,
    at           BIGINT                  NOT NULL,
    step         VARCHAR(64) COLLATE "C" NOT NULL,
    outcome      VARCHAR(16) COLLATE "C" NOT NULL,
    sentence     TEXT COLLATE "C"        NOT NULL,
    PRIMARY KEY (operation_id, seq)
);

CREATE TABLE report (
    operation_id VARCHAR(160) COLLATE "C" NOT NULL PRIMARY KEY,
    instance_id  VARCHAR(64) COLLATE "C"  NOT NULL,
    at           BIGINT                   NOT NULL,
    done         SMALLINT                 NOT NULL,
    error        TEXT COLLATE "C"         NOT NULL,
    error_kind   SMALLINT                 NOT NULL,
    sentence     TEXT COLLATE "C"         NOT NULL,
    percent      INTEGER                  NOT NULL,
    result       TEXT COLLATE "C"         NOT NULL
);
CREATE INDEX report_instance ON report (instance_id);

CREATE TABLE revoked_key (
    public_key  VARCHAR(64) COLLATE "C" NOT NULL PRIMARY KEY,
    instance_id VARCHAR(64) COLLATE "C" NOT NULL,
    revoked_at  BIGINT                  NOT NULL,
    expires     BIGINT                  NOT NULL
);
CREATE INDEX revoked_key_expires ON revoked_key (expires);

CREATE TABLE identity_user (
    id            VARCHAR(64) COLLATE "C"  NOT NULL PRIMARY KEY,
    name          VARCHAR(255) COLLATE "C" NOT NULL,
    password_hash TEXT COLLATE "C"         NOT NULL,
    enabled       SMALLINT                 NOT NULL
);
CREATE UNIQUE INDEX identity_user_name ON identity_user (name);

CREATE TABLE identity_project (
    id      VARCHAR(64) COLLATE "C"  NOT NULL PRIMARY KEY,
    name    VARCHAR(255) COLLATE "C" NOT NULL,
    enabled SMALLINT                 NOT NULL
);
CREATE UNIQUE INDEX identity_project_name ON identity_project (name);

CREATE TABLE identity_role (
    user_id    VARCHAR(64) COLLATE "C" NOT NULL,
    project_id VARCHAR(64) COLLATE "C" NOT NULL,
    role       VARCHAR(64) COLLATE "C" NOT NULL,
    PRIMARY KEY (user_id, project_id, role)
);

CREATE TABLE identity_token (
    hash       VARCHAR(64) COLLATE "C" NOT NULL PRIMARY KEY,
    user_id    VARCHAR(64) COLLATE "C" NOT NULL,
    project_id VARCHAR(64) COLLATE "C" NOT NULL,
    issued     BIGINT                  NOT NULL,
    expires    BIGINT                  NOT NULL
);
CREATE INDEX identity_token_expires ON identity_token (expires);
