package app

import (
	"context"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus/natsbus/server"
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

// TokenOwner returns whose token it is.
func (e enrolments) TokenOwner(ctx context.Context, tokenHash string) (string, error) {
	return e.store.TokenOwner(ctx, tokenHash)
}

// GuestKey returns the key that the guest of a living instance made. While two machines report with it, it is nobody's: what they have is not renewed.
func (e enrolments) GuestKey(ctx context.Context, instance string) (string, error) {
	g, err := e.store.Guest(ctx, instance)
	if err == nil && g.Copied() {
		return "", trove.Errorf(trove.KindForbidden, "Two machines report as the guest of instance %s.", instance)
	}
	return g.PublicKey, err
}

// CredentialIssued notes how long the newest credential lives and what it tells the guest.
func (e enrolments) CredentialIssued(ctx context.Context, instance string, expires time.Time, trust string) error {
	return e.store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		if err := tx.SetGuestCredential(ctx, instance, expires); err != nil {
			return err
		}
		return tx.SetGuestTrust(ctx, instance, trust)
	})
}

// alarmed writes what the broker saw of a guest into the instance's timeline. An instance whose guest was revoked is in error: it cannot be managed.
func (c *controllers) alarmed(ctx context.Context, a server.Alarm) {
	if a.Instance == "" {
		return
	}
	now := c.clock.Now()
	kinds := map[server.AlarmKind]string{server.AlarmReused: trove.EventTokenReused, server.AlarmFlood: trove.EventGuestRevoked}
	err := c.store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		e := trove.InstanceEvent{InstanceID: a.Instance, At: now, Kind: kinds[a.Kind], Sentence: a.Sentence}
		if err := tx.CountInstanceEvent(ctx, e, time.Hour); err != nil || a.Kind != server.AlarmFlood {
			return err
		}
		return tx.UpdateInstance(ctx, a.Instance, now, func(i *trove.Instance) error {
			i.Task, i.Fault = trove.TaskGuestRevoked, &trove.Fault{Message: a.Sentence, Created: now}
			return nil
		})
	})
	if err != nil && !trove.IsNotFound(err) {
		c.log.WarnContext(ctx, "alarm could not be noted", "instance", a.Instance, "err", err)
	}
}
