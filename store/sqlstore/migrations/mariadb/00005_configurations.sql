-- +goose Up
CREATE TABLE IF NOT EXISTS configuration (
    id                   VARCHAR(64)  NOT NULL PRIMARY KEY,
    project_id           VARCHAR(64)  NOT NULL,
    name                 VARCHAR(255) NOT NULL,
    description          VARCHAR(255) NOT NULL,
    datastore_version_id VARCHAR(64)  NOT NULL,
    parameters           LONGTEXT     NOT NULL,
    created              BIGINT       NOT NULL,
    updated              BIGINT       NOT NULL,
    version              BIGINT       NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE INDEX IF NOT EXISTS configuration_page ON configuration (project_id, id);
CREATE INDEX IF NOT EXISTS configuration_datastore_version ON configuration (datastore_version_id);

-- Which instances have a group.
CREATE INDEX IF NOT EXISTS instance_configuration_id ON instance (configuration_id, deleted, id);
-- Which use a datastore version.
CREATE INDEX IF NOT EXISTS instance_datastore_version ON instance (datastore_version_id, deleted);

-- How far a guest has followed its group; a row exists from the first time on that it was told something.
CREATE TABLE IF NOT EXISTS instance_configuration (
    instance_id VARCHAR(64) NOT NULL PRIMARY KEY,
    revision    BIGINT      NOT NULL,
    applied     BIGINT      NOT NULL,
    behind      SMALLINT    NOT NULL, -- 1: applied < revision, so that an index finds it
    due         BIGINT      NOT NULL,
    restart     SMALLINT    NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE INDEX IF NOT EXISTS instance_configuration_behind ON instance_configuration (behind, due);

-- The rules for the parameters of a datastore version. Limits are numbers as text, '' for none.
CREATE TABLE IF NOT EXISTS datastore_parameter (
    datastore_version_id VARCHAR(64)  NOT NULL,
    name                 VARCHAR(128) NOT NULL,
    restart_required     SMALLINT     NOT NULL,
    type                 VARCHAR(16)  NOT NULL,
    min_value            VARCHAR(64)  NOT NULL,
    max_value            VARCHAR(64)  NOT NULL,
    custom               SMALLINT     NOT NULL,
    removed              SMALLINT     NOT NULL,
    PRIMARY KEY (datastore_version_id, name)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;

ALTER TABLE datastore_version ADD COLUMN IF NOT EXISTS image_tags LONGTEXT NOT NULL DEFAULT '';
