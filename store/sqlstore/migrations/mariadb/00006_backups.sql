-- +goose Up
-- Backups outlive their instance; a deleted row is kept, as an instance's is. The size is in GiB.
CREATE TABLE IF NOT EXISTS backup (
    id                   VARCHAR(64)      NOT NULL PRIMARY KEY,
    project_id           VARCHAR(64)      NOT NULL,
    instance_id          VARCHAR(64)      NOT NULL,
    name                 VARCHAR(255)     NOT NULL,
    description          VARCHAR(512)     NOT NULL,
    parent_id            VARCHAR(64)      NOT NULL,
    state                VARCHAR(32)      NOT NULL,
    location             VARCHAR(1024)    NOT NULL,
    size                 DOUBLE PRECISION NOT NULL,
    checksum             VARCHAR(128)     NOT NULL,
    datastore_version_id VARCHAR(64)      NOT NULL,
    storage_driver       VARCHAR(255)     NOT NULL,
    created              BIGINT           NOT NULL,
    updated              BIGINT           NOT NULL,
    deleted              SMALLINT         NOT NULL DEFAULT 0,
    deleted_at           BIGINT           NOT NULL DEFAULT 0,
    version              BIGINT           NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE INDEX IF NOT EXISTS backup_project ON backup (project_id, deleted, updated);
CREATE INDEX IF NOT EXISTS backup_instance ON backup (instance_id, deleted, updated);
CREATE INDEX IF NOT EXISTS backup_parent ON backup (parent_id, deleted, updated);
CREATE INDEX IF NOT EXISTS backup_updated ON backup (deleted, updated);

-- The instance is '' for the project's default.
CREATE TABLE IF NOT EXISTS backup_strategy (
    project_id  VARCHAR(64)  NOT NULL,
    instance_id VARCHAR(64)  NOT NULL,
    backend     VARCHAR(255) NOT NULL,
    container   VARCHAR(255) NOT NULL,
    created     BIGINT       NOT NULL,
    PRIMARY KEY (project_id, instance_id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

-- The project is '' for all of them, datastore and version likewise. The contents are sealed, and may be more than a MiB.
CREATE TABLE IF NOT EXISTS module (
    id                   VARCHAR(64)  NOT NULL PRIMARY KEY,
    project_id           VARCHAR(64)  NOT NULL,
    name                 VARCHAR(255) NOT NULL,
    type                 VARCHAR(64)  NOT NULL,
    description          LONGTEXT     NOT NULL,
    contents             LONGTEXT     NOT NULL,
    md5                  VARCHAR(32)  NOT NULL,
    datastore_id         VARCHAR(64)  NOT NULL,
    datastore_version_id VARCHAR(64)  NOT NULL,
    auto_apply           SMALLINT     NOT NULL,
    visible              SMALLINT     NOT NULL,
    live_update          SMALLINT     NOT NULL,
    priority_apply       SMALLINT     NOT NULL,
    apply_order          INTEGER      NOT NULL,
    is_admin             SMALLINT     NOT NULL,
    created              BIGINT       NOT NULL,
    updated              BIGINT       NOT NULL,
    deleted              SMALLINT     NOT NULL DEFAULT 0,
    deleted_at           BIGINT       NOT NULL DEFAULT 0,
    living               SMALLINT     DEFAULT 1,
    version              BIGINT       NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE INDEX IF NOT EXISTS module_project ON module (project_id, deleted, id);
-- Of two creates of the same at once one wins. A deleted module is in nobody's way: its living is NULL.
CREATE UNIQUE INDEX IF NOT EXISTS module_name ON module (name, type, project_id, datastore_id, datastore_version_id, living);

CREATE TABLE IF NOT EXISTS instance_module (
    instance_id VARCHAR(64) NOT NULL,
    module_id   VARCHAR(64) NOT NULL,
    md5         VARCHAR(32) NOT NULL,
    created     BIGINT      NOT NULL,
    updated     BIGINT      NOT NULL,
    PRIMARY KEY (instance_id, module_id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE INDEX IF NOT EXISTS instance_module_module ON instance_module (module_id);

CREATE TABLE IF NOT EXISTS cluster (
    id                   VARCHAR(64)  NOT NULL PRIMARY KEY,
    project_id           VARCHAR(64)  NOT NULL,
    name                 VARCHAR(255) NOT NULL,
    task                 INTEGER      NOT NULL,
    datastore_version_id VARCHAR(64)  NOT NULL,
    configuration_id     VARCHAR(64)  NOT NULL,
    created              BIGINT       NOT NULL,
    updated              BIGINT       NOT NULL,
    deleted              SMALLINT     NOT NULL DEFAULT 0,
    deleted_at           BIGINT       NOT NULL DEFAULT 0,
    version              BIGINT       NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE INDEX IF NOT EXISTS cluster_project ON cluster (project_id, deleted, id);

-- Whether a backup that a user asked for is running, kept with the backups so that a page of instances needs no look at them.
ALTER TABLE instance ADD COLUMN IF NOT EXISTS backing_up SMALLINT NOT NULL DEFAULT 0;
ALTER TABLE instance ADD COLUMN IF NOT EXISTS cluster_id VARCHAR(64) NOT NULL DEFAULT '';
ALTER TABLE instance ADD COLUMN IF NOT EXISTS shard_id VARCHAR(64) NOT NULL DEFAULT '';
ALTER TABLE instance ADD COLUMN IF NOT EXISTS member_type VARCHAR(64) NOT NULL DEFAULT '';
-- As instance_page, for lists without the members of clusters, which is what clients mostly ask for, and for the members of one.
CREATE INDEX IF NOT EXISTS instance_page_single ON instance (project_id, deleted, cluster_id, id, version);
