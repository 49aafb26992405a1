-- +goose Up
CREATE TABLE configuration (
    id                   VARCHAR(64) COLLATE "C"  NOT NULL PRIMARY KEY,
    project_id           VARCHAR(64) COLLATE "C"  NOT NULL,
    name                 VARCHAR(255) COLLATE "C" NOT NULL,
    description          VARCHAR(255) COLLATE "C" NOT NULL,
    datastore_version_id VARCHAR(64) COLLATE "C"  NOT NULL,
    parameters           TEXT COLLATE "C"         NOT NULL,
    created              BIGINT                   NOT NULL,
    updated              BIGINT                   NOT NULL,
    version              BIGINT                   NOT NULL
);
CREATE INDEX configuration_page ON configuration (project_id, id);
CREATE INDEX configuration_datastore_version ON configuration (datastore_version_id);

-- Which instances have a group.
CREATE INDEX instance_configuration_id ON instance (configuration_id, deleted, id);
-- Which use a datastore version.
CREATE INDEX instance_datastore_version ON instance (datastore_version_id, deleted);

-- How far a guest has followed its group; a row exists from the first time on that it was told something.
CREATE TABLE instance_configuration (
    instance_id VARCHAR(64) COLLATE "C" NOT NULL PRIMARY KEY,
    revision    BIGINT                  NOT NULL,
    applied     BIGINT                  NOT NULL,
    behind      SMALLINT                NOT NULL, -- 1: applied < revision, so that an index finds it
    due         BIGINT                  NOT NULL,
    restart     SMALLINT                NOT NULL
);
CREATE INDEX instance_configuration_behind ON instance_configuration (behind, due);

-- The rules for the parameters of a datastore version. Limits are numbers as text, '' for none.
CREATE TABLE datastore_parameter (
    datastore_version_id VARCHAR(64) COLLATE "C"  NOT NULL,
    name                 VARCHAR(128) COLLATE "C" NOT NULL,
    restart_required     SMALLINT                 NOT NULL,
    type                 VARCHAR(16) COLLATE "C"  NOT NULL,
    min_value            VARCHAR(64) COLLATE "C"  NOT NULL,
    max_value            VARCHAR(64) COLLATE "C"  NOT NULL,
    custom               SMALLINT                 NOT NULL,
    removed              SMALLINT                 NOT NULL,
    PRIMARY KEY (datastore_version_id, name)
);

ALTER TABLE datastore_version ADD COLUMN image_tags TEXT COLLATE "C" NOT NULL DEFAULT '';
