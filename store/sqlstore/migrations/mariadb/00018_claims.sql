-- +goose Up
-- Names that a process has for a moment, such as that of an object which only one may write: a hash of the name, who has it, and until when at most.
CREATE TABLE IF NOT EXISTS name_claim (
    name  VARCHAR(64) NOT NULL PRIMARY KEY,
    owner VARCHAR(64) NOT NULL,
    ends  BIGINT      NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
