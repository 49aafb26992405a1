package store

import (
	"context"
	"time"
)

// ScrapeToken is what lets a monitoring system read one instance's metrics. Of the token itself only a hash is kept.
type ScrapeToken struct {
	InstanceID string
	Hash       string
	UserID     string // who made it
	Created    time.Time
}

// ScrapeTokenReader reads scrape tokens.
type ScrapeTokenReader interface {
	// ScrapeToken returns the token of an instance, NotFound if it has none. One of a deleted instance is gone.
	ScrapeToken(ctx context.Context, instance string) (ScrapeToken, error)
}

// ScrapeTokens are the changes to them.
type ScrapeTokens interface {
	// PutScrapeToken gives the instance a token; one that it had is valid no more.
	PutScrapeToken(ctx context.Context, t ScrapeToken) error
	// DeleteScrapeToken takes it away. Gone is fine.
	DeleteScrapeToken(ctx context.Context, instance string) error
}
