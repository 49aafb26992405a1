-- +goose Up
-- Raised by a transaction that makes something which needs the row, so that no other one deletes the row at the same time.
ALTER TABLE datastore ADD COLUMN holds BIGINT NOT NULL DEFAULT 0;
ALTER TABLE datastore_version ADD COLUMN holds BIGINT NOT NULL DEFAULT 0;
ALTER TABLE configuration ADD COLUMN holds BIGINT NOT NULL DEFAULT 0;

-- Which use a datastore version.
CREATE INDEX backup_datastore_version ON backup (datastore_version_id, deleted, updated);
-- Whose answers are to be dropped.
CREATE INDEX idempotent_call_answer ON idempotent_call (state, answer_ends);
