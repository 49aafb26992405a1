-- +goose Up
-- Calls that carried an Idempotency-Key. The id is a hash of project and key; fingerprint and answer are sealed.
CREATE TABLE IF NOT EXISTS idempotent_call (
    id          VARCHAR(64) NOT NULL PRIMARY KEY,
    owner       VARCHAR(64) NOT NULL,
    state       VARCHAR(16) NOT NULL,
    lease_end   BIGINT      NOT NULL,
    expires     BIGINT      NOT NULL,
    answer_ends BIGINT      NOT NULL,
    fingerprint LONGTEXT    NOT NULL,
    answer      LONGTEXT    NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE INDEX IF NOT EXISTS idempotent_call_expires ON idempotent_call (expires);

-- Who changed what. Ids begin with the time, so that their order is that of the calls. Roles is JSON.
CREATE TABLE IF NOT EXISTS audit_record (
    id           VARCHAR(64)  NOT NULL PRIMARY KEY,
    project_id   VARCHAR(255) NOT NULL,
    user_id      VARCHAR(255) NOT NULL,
    user_name    VARCHAR(255) NOT NULL,
    roles        LONGTEXT     NOT NULL,
    remote       VARCHAR(64)  NOT NULL,
    request_id   VARCHAR(64)  NOT NULL,
    method       VARCHAR(16)  NOT NULL,
    path         LONGTEXT     NOT NULL,
    action       VARCHAR(64)  NOT NULL,
    target_type  VARCHAR(64)  NOT NULL,
    target_id    VARCHAR(255) NOT NULL,
    operation_id VARCHAR(64)  NOT NULL,
    status       INTEGER      NOT NULL,
    took         BIGINT       NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE INDEX IF NOT EXISTS audit_record_project ON audit_record (project_id, id);
CREATE INDEX IF NOT EXISTS audit_record_target ON audit_record (target_id, id);
