-- +goose Up
-- Data that an upgrade has kept, until it is confirmed or rolled back.
CREATE TABLE kept_data (
    instance_id          VARCHAR(64) NOT NULL PRIMARY KEY,
    datastore_version_id VARCHAR(64) NOT NULL,
    image_id             VARCHAR(255) NOT NULL,
    since                BIGINT      NOT NULL,
    bytes                BIGINT      NOT NULL
);
CREATE INDEX kept_data_since ON kept_data (since);
CREATE INDEX kept_data_version ON kept_data (datastore_version_id);
