-- +goose Up
-- Data that an upgrade has kept, until it is confirmed or rolled back.
CREATE TABLE IF NOT EXISTS kept_data (
    instance_id          VARCHAR(64) NOT NULL PRIMARY KEY,
    datastore_version_id VARCHAR(64) NOT NULL,
    image_id             VARCHAR(255) NOT NULL,
    since                BIGINT      NOT NULL,
    bytes                BIGINT      NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE INDEX IF NOT EXISTS kept_data_since ON kept_data (since);
CREATE INDEX IF NOT EXISTS kept_data_version ON kept_data (datastore_version_id);
