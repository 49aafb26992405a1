-- +goose Up
-- The keys that all controllers of the deployment share, sealed under the master key.
CREATE TABLE key_material (
    name    VARCHAR(64) NOT NULL PRIMARY KEY,
    content TEXT NOT NULL
);

-- Where guests reach the object gateway beside the broker (JSON), where controllers of other hosts reach the broker, on which machine it is, and how far that
-- machine's clock is ahead of the database's in microseconds.
ALTER TABLE controller ADD COLUMN objects_url VARCHAR(1000) NOT NULL DEFAULT '[]';
ALTER TABLE controller ADD COLUMN control_address VARCHAR(255) NOT NULL DEFAULT '';
ALTER TABLE controller ADD COLUMN host VARCHAR(255) NOT NULL DEFAULT '';
ALTER TABLE controller ADD COLUMN clock_ahead BIGINT NOT NULL DEFAULT 0;

-- The machine that the deployment's local cloud is on: no other one has its databases. One row, id "cloud".
CREATE TABLE cloud_owner (
    id      VARCHAR(16) NOT NULL PRIMARY KEY,
    machine VARCHAR(255) NOT NULL,
    name    VARCHAR(255) NOT NULL
);
