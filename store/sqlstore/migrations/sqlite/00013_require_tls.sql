-- +goose Up
-- Databases of the version let nobody in without TLS.
ALTER TABLE datastore_version ADD COLUMN require_tls SMALLINT NOT NULL DEFAULT 0;
