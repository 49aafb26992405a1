-- +goose Up
-- Authorities that sign the certificates of databases; the key is sealed. There is never more than one without a successor.
CREATE TABLE engine_authority (
    id          VARCHAR(64) COLLATE "C"  NOT NULL PRIMARY KEY,
    successor   VARCHAR(64) COLLATE "C"  NOT NULL,
    certificate TEXT COLLATE "C"         NOT NULL,
    cross_cert  TEXT COLLATE "C"         NOT NULL,
    sealed_key  TEXT COLLATE "C"         NOT NULL,
    made        BIGINT        NOT NULL,
    ends        BIGINT        NOT NULL
);
CREATE UNIQUE INDEX engine_authority_successor ON engine_authority (successor);

-- What each database got last; no row: nothing yet.
CREATE TABLE instance_certificate (
    instance_id  VARCHAR(64) COLLATE "C" NOT NULL PRIMARY KEY,
    authority_id VARCHAR(64) COLLATE "C" NOT NULL,
    ends         BIGINT       NOT NULL,
    try_at       BIGINT       NOT NULL
);
