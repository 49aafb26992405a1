-- +goose Up
-- The timeline of an instance beside its operations: the newest thousand of each, kept for a deleted one as its operations are.
CREATE TABLE IF NOT EXISTS instance_event (
    instance_id VARCHAR(64) NOT NULL,
    seq         BIGINT      NOT NULL,
    at          BIGINT      NOT NULL,
    first_at    BIGINT      NOT NULL,
    count       BIGINT      NOT NULL,
    kind        VARCHAR(64) NOT NULL,
    sentence    LONGTEXT    NOT NULL,
    details     LONGTEXT    NOT NULL,
    PRIMARY KEY (instance_id, seq)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
CREATE INDEX IF NOT EXISTS instance_event_at ON instance_event (instance_id, at);
CREATE INDEX IF NOT EXISTS instance_event_kind ON instance_event (instance_id, kind, first_at);

-- What tells that an agent started again, and which event of it was written last, by its own clock.
ALTER TABLE guest_state ADD COLUMN IF NOT EXISTS agent_start BIGINT NOT NULL DEFAULT 0;
ALTER TABLE guest_state ADD COLUMN IF NOT EXISTS event_at BIGINT NOT NULL DEFAULT 0;
