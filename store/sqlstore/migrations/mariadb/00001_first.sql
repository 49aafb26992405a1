-- +goose Up
-- A statement that changes tables is committed by itself: each can be run again after a migration that was cut off.
-- Times are microseconds since 1970 in UTC, 0 for none. Flags are 0 or 1. JSON is text, '' for nothing.

CREATE TABLE IF NOT EXISTS instance (
    id                   VARCHAR(64)  NOT NULL PRIMARY KEY,
    project_id           VARCHAR(64)  NOT NULL,
    name                 VARCHAR(255) NOT NULL,
    created              BIGINT       NOT NULL,
    updated              BIGINT       NOT NULL,
    deleted              SMALLINT     NOT NULL DEFAULT 0,
    deleted_at           BIGINT       NOT NULL DEFAULT 0,
    task                 INTEGER      NOT NULL,
    server_status        VARCHAR(32)  NOT NULL,
    datastore_version_id VARCHAR(64)  NOT NULL,
    flavor_id            VARCHAR(255) NOT NULL,
    volume_size          INTEGER      NOT NULL,
    volume_type          VARCHAR(255) NOT NULL,
    region               VARCHAR(255) NOT NULL,
    availability_zone    VARCHAR(255) NOT NULL,
    locality             VARCHAR(64)  NOT NULL,
    hostname             VARCHAR(255) NOT NULL,
    configuration_id     VARCHAR(64)  NOT NULL,
    replica_of           VARCHAR(64)  NOT NULL,
    access               LONGTEXT     NOT NULL,
    nics                 LONGTEXT     NOT NULL,
    addresses            LONGTEXT     NOT NULL,
    fault                LONGTEXT     NOT NULL,
    compute_id           VARCHAR(255) NOT NULL,
    volume_id            VARCHAR(255) NOT NULL,
    server_id            BIGINT       NOT NULL,
    held                 LONGTEXT     NOT NULL,
    version              BIGINT       NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE UNIQUE INDEX IF NOT EXISTS instance_server_id ON instance (server_id);
-- With the version a page is read from the index alone: what the version stands for is in the process's cache.
CREATE INDEX IF NOT EXISTS instance_page ON instance (project_id, deleted, id, version);
CREATE INDEX IF NOT EXISTS instance_page_all ON instance (deleted, id, version);
CREATE INDEX IF NOT EXISTS instance_replica_of ON instance (replica_of);

-- Written with every heartbeat, and therefore apart from the instance.
CREATE TABLE IF NOT EXISTS guest_state (
    instance_id   VARCHAR(64) NOT NULL PRIMARY KEY,
    service       VARCHAR(32) NOT NULL,
    service_at    BIGINT      NOT NULL DEFAULT 0,
    seen_at       BIGINT      NOT NULL DEFAULT 0,
    boot_id       VARCHAR(64) NOT NULL DEFAULT '',
    agent_version VARCHAR(64) NOT NULL DEFAULT '',
    engine_start  BIGINT      NOT NULL DEFAULT 0,
    volume_used   BIGINT      NOT NULL DEFAULT 0,
    volume_total  BIGINT      NOT NULL DEFAULT 0
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS guest (
    instance_id     VARCHAR(64) NOT NULL PRIMARY KEY,
    public_key      VARCHAR(64) NOT NULL DEFAULT '',
    token_hash      VARCHAR(64),
    token_expires   BIGINT      NOT NULL DEFAULT 0,
    token_used      BIGINT      NOT NULL DEFAULT 0,
    credential_ends BIGINT      NOT NULL DEFAULT 0
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE UNIQUE INDEX IF NOT EXISTS guest_token_hash ON guest (token_hash);

CREATE TABLE IF NOT EXISTS root_history (
    instance_id VARCHAR(64)  NOT NULL PRIMARY KEY,
    user_id     VARCHAR(255) NOT NULL,
    enabled     BIGINT       NOT NULL,
    disabled    BIGINT       NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS datastore (
    id                 VARCHAR(64)  NOT NULL PRIMARY KEY,
    name               VARCHAR(255) NOT NULL,
    default_version_id VARCHAR(64)  NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE UNIQUE INDEX IF NOT EXISTS datastore_name ON datastore (name);

CREATE TABLE IF NOT EXISTS datastore_version (
    id           VARCHAR(64)  NOT NULL PRIMARY KEY,
    datastore_id VARCHAR(64)  NOT NULL,
    name         VARCHAR(255) NOT NULL,
    version      VARCHAR(255) NOT NULL,
    manager      VARCHAR(255) NOT NULL,
    image_id     VARCHAR(255) NOT NULL,
    active       SMALLINT     NOT NULL,
    packages     LONGTEXT     NOT NULL,
    capabilities LONGTEXT     NOT NULL,
    flavor_ids   LONGTEXT     NOT NULL,
    volume_types LONGTEXT     NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE INDEX IF NOT EXISTS datastore_version_datastore ON datastore_version (datastore_id);

-- A row exists from the first use or the first limit on. hard_limit is NULL where the default holds.
CREATE TABLE IF NOT EXISTS quota (
    project_id VARCHAR(64) NOT NULL,
    resource   VARCHAR(32) NOT NULL,
    hard_limit BIGINT,
    in_use     BIGINT      NOT NULL DEFAULT 0,
    reserved   BIGINT      NOT NULL DEFAULT 0,
    PRIMARY KEY (project_id, resource)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS operation (
    id           VARCHAR(64) NOT NULL PRIMARY KEY,
    kind         VARCHAR(64) NOT NULL,
    target       VARCHAR(64) NOT NULL,
    project_id   VARCHAR(64) NOT NULL,
    request_id   VARCHAR(64) NOT NULL,
    state        VARCHAR(16) NOT NULL,
    direction    VARCHAR(8)  NOT NULL,
    step         VARCHAR(64) NOT NULL,
    step_no      INTEGER     NOT NULL,
    steps        INTEGER     NOT NULL,
    step_started BIGINT      NOT NULL,
    attempt      INTEGER     NOT NULL,
    sentence     LONGTEXT    NOT NULL,
    percent      INTEGER     NOT NULL,
    cancel       SMALLINT    NOT NULL,
    error        LONGTEXT    NOT NULL,
    created      BIGINT      NOT NULL,
    updated      BIGINT      NOT NULL,
    deadline     BIGINT      NOT NULL,
    version      BIGINT      NOT NULL,
    claim        BIGINT      NOT NULL,
    wake_at      BIGINT      NOT NULL,
    owner        VARCHAR(64) NOT NULL,
    events       BIGINT      NOT NULL,
    input        LONGTEXT    NOT NULL,
    notes        LONGTEXT    NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE INDEX IF NOT EXISTS operation_wake_at ON operation (wake_at);
CREATE INDEX IF NOT EXISTS operation_owner ON operation (owner);
CREATE INDEX IF NOT EXISTS operation_target ON operation (target, created);

-- One open operation for each instance.
CREATE TABLE IF NOT EXISTS operation_lock (
    target       VARCHAR(64) NOT NULL PRIMARY KEY,
    operation_id VARCHAR(64) NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS operation_log (
    operation_id VARCHAR(64) NOT NULL,
    seq          BIGINT      NOT NULL,
    at           BIGINT      NOT NULL,
    step         VARCHAR(64) NOT NULL,
    outcome      VARCHAR(16) NOT NULL,
    sentence     LONGTEXT    NOT NULL,
    PRIMARY KEY (operation_id, seq)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS report (
    operation_id VARCHAR(160) NOT NULL PRIMARY KEY,
    instance_id  VARCHAR(64)  NOT NULL,
    at           BIGINT       NOT NULL,
    done         SMALLINT     NOT NULL,
    error        LONGTEXT     NOT NULL,
    error_kind   SMALLINT     NOT NULL,
    sentence     LONGTEXT     NOT NULL,
    percent      INTEGER      NOT NULL,
    result       LONGTEXT     NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE INDEX IF NOT EXISTS report_instance ON report (instance_id);

CREATE TABLE IF NOT EXISTS revoked_key (
    public_key  VARCHAR(64) NOT NULL PRIMARY KEY,
    instance_id VARCHAR(64) NOT NULL,
    revoked_at  BIGINT      NOT NULL,
    expires     BIGINT      NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE INDEX IF NOT EXISTS revoked_key_expires ON revoked_key (expires);

CREATE TABLE IF NOT EXISTS identity_user (
    id            VARCHAR(64)  NOT NULL PRIMARY KEY,
    name          VARCHAR(255) NOT NULL,
    password_hash LONGTEXT     NOT NULL,
    enabled       SMALLINT     NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE UNIQUE INDEX IF NOT EXISTS identity_user_name ON identity_user (name);

CREATE TABLE IF NOT EXISTS identity_project (
    id      VARCHAR(64)  NOT NULL PRIMARY KEY,
    name    VARCHAR(255) NOT NULL,
    enabled SMALLINT     NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE UNIQUE INDEX IF NOT EXISTS identity_project_name ON identity_project (name);

CREATE TABLE IF NOT EXISTS identity_role (
    user_id    VARCHAR(64) NOT NULL,
    project_id VARCHAR(64) NOT NULL,
    role       VARCHAR(64) NOT NULL,
    PRIMARY KEY (user_id, project_id, role)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

CREATE TABLE IF NOT EXISTS identity_token (
    hash       VARCHAR(64) NOT NULL PRIMARY KEY,
    user_id    VARCHAR(64) NOT NULL,
    project_id VARCHAR(64) NOT NULL,
    issued     BIGINT      NOT NULL,
    expires    BIGINT      NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE INDEX IF NOT EXISTS identity_token_expires ON identity_token (expires);
