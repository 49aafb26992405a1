-- +goose Up
-- Names that a process has for a moment, such as that of an object which only one may write: a hash of the name, who has it, and until when at most.
CREATE TABLE name_claim (
    name  VARCHAR(64) NOT NULL PRIMARY KEY,
    owner VARCHAR(64) NOT NULL,
    ends  BIGINT      NOT NULL
);
