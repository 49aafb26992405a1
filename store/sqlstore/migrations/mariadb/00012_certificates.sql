-- +goose Up
-- Authorities that sign the certificates of databases; the key is sealed. There is never more than one without a successor.
CREATE TABLE IF NOT EXISTS engine_authority (
    id          VARCHAR(64)  NOT NULL PRIMARY KEY,
    successor   VARCHAR(64)  NOT NULL,
    certificate LONGTEXT         NOT NULL,
    cross_cert  LONGTEXT         NOT NULL,
    sealed_key  LONGTEXT         NOT NULL,
    made        BIGINT        NOT NULL,
    ends        BIGINT        NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE UNIQUE INDEX IF NOT EXISTS engine_authority_successor ON engine_authority (successor);

-- What each database got last; no row: nothing yet.
CREATE TABLE IF NOT EXISTS instance_certificate (
    instance_id  VARCHAR(64) NOT NULL PRIMARY KEY,
    authority_id VARCHAR(64) NOT NULL,
    ends         BIGINT       NOT NULL,
    try_at       BIGINT       NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
