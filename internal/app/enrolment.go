package app

import (
	"context"
	"time"

	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/store"
)

// enrolments is what the enrolment server needs of the store.
type enrolments struct {
	store store.Store
	clock clock.Clock
}

// UseEnrolmentToken takes a token for a key; see store.Tx.
func (e enrolments) UseEnrolmentToken(ctx context.Context, tokenHash, publicKey string) (instance string, err error) {
	err = e.store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		var err error
		instance, err = tx.UseEnrolmentToken(ctx, tokenHash, publicKey, e.clock.Now())
		return err
	})
	return instance, err
}

// GuestKey returns the key that the guest of a living instance made.
func (e enrolments) GuestKey(ctx context.Context, instance string) (string, error) {
	g, err := e.store.Guest(ctx, instance)
	return g.PublicKey, err
}

// CredentialIssued notes how long the newest credential lives.
func (e enrolments) CredentialIssued(ctx context.Context, instance string, expires time.Time) error {
	return e.store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		return tx.SetGuestCredential(ctx, instance, expires)
	})
}
