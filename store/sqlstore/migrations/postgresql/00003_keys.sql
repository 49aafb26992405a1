-- +goose Up
-- What the guest was told of the bus with the credential that it has.
ALTER TABLE guest ADD COLUMN trust VARCHAR(64) COLLATE "C" NOT NULL DEFAULT '';

-- The boot before the present one, and how often a boot that had been replaced came back: a machine that was copied.
ALTER TABLE guest_state ADD COLUMN boot_before VARCHAR(64) COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE guest_state ADD COLUMN boot_returns INTEGER NOT NULL DEFAULT 0;

-- The brokers of the deployment. Lists are JSON.
CREATE TABLE controller (
    id         VARCHAR(64) COLLATE "C"  NOT NULL PRIMARY KEY,
    route_url  VARCHAR(255) COLLATE "C" NOT NULL,
    client_url TEXT COLLATE "C"         NOT NULL,
    enrol_url  TEXT COLLATE "C"         NOT NULL,
    seen_at    BIGINT                   NOT NULL
);
