-- +goose Up
-- The alarm of the data volume and whether it grows by itself: JSON, '' for neither.
ALTER TABLE instance ADD COLUMN storage TEXT NOT NULL DEFAULT '';

-- What lets a monitoring system read an instance's metrics, and nothing else. Only the token's hash is kept.
CREATE TABLE scrape_token (
    instance_id VARCHAR(64)  NOT NULL PRIMARY KEY,
    hash        VARCHAR(64)  NOT NULL,
    user_id     VARCHAR(255) NOT NULL,
    created     BIGINT       NOT NULL
);
