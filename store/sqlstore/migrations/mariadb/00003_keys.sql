-- +goose Up
-- What the guest was told of the bus with the credential that it has.
ALTER TABLE guest ADD COLUMN IF NOT EXISTS trust VARCHAR(64) NOT NULL DEFAULT '';

-- The boot before the present one, and how often a boot that had been replaced came back: a machine that was copied.
ALTER TABLE guest_state ADD COLUMN IF NOT EXISTS boot_before VARCHAR(64) NOT NULL DEFAULT '';
ALTER TABLE guest_state ADD COLUMN IF NOT EXISTS boot_returns INTEGER NOT NULL DEFAULT 0;

-- The brokers of the deployment. Lists are JSON.
CREATE TABLE IF NOT EXISTS controller (
    id         VARCHAR(64)  NOT NULL PRIMARY KEY,
    route_url  VARCHAR(255) NOT NULL,
    client_url LONGTEXT     NOT NULL,
    enrol_url  LONGTEXT     NOT NULL,
    seen_at    BIGINT       NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin;
