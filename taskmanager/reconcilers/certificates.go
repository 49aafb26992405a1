package reconcilers

import (
	"context"
	"errors"
	"fmt"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/engineca"
	"github.com/trove-dbaas/trove/store"
)

// Certifier signs what databases show to their clients; *engineca.CA is one.
type Certifier interface {
	// Current returns which authority signs.
	Current(ctx context.Context) (string, error)
	// RenewBefore returns when a certificate that ends then or earlier is to be replaced.
	RenewBefore() time.Time
	Sign(ctx context.Context, r engineca.Request) (engineca.Signed, error)
}

// Certificates gives databases a certificate of the deployment's authority: those that have none, whose addresses have changed, whose certificate ends
// soon, and all after the authority was replaced. It takes no restart and no connection.
type Certificates struct{ cfg Config }

const (
	certifyTimeout = 10 * time.Second
	certifyAtOnce  = 200 // instances in one round
	// certifyAgain is when a guest that does not answer is asked again, certifyNever when one that takes no certificates is, whose agent may be replaced.
	certifyAgain = 15 * time.Second
	certifyLater = 10 * time.Minute
	certifyNever = time.Hour
)

// Candidates returns instances whose databases need a certificate.
func (c *Certificates) Candidates(ctx context.Context) ([]string, error) {
	authority, err := c.cfg.Certifier.Current(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for the authority of databases: %w", err)
	}
	ids, err := c.cfg.Store.DueCertificates(ctx, authority, c.cfg.Certifier.RenewBefore(), c.cfg.Clock.Now(), certifyAtOnce)
	if err != nil {
		return nil, fmt.Errorf("look for databases that need a certificate: %w", err)
	}
	return ids, nil
}

// ReconcileOne gives one database a certificate.
func (c *Certificates) ReconcileOne(ctx context.Context, id string) error {
	i, err := c.cfg.Store.Instance(ctx, id)
	if trove.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read instance %s: %w", id, err)
	}
	switch now := c.cfg.Clock.Now(); {
	case i.Stopped():
		return c.putOff(ctx, id, restAgain)
	case i.ServerStatus != trove.ServerActive, i.Task == trove.TaskDeleting, i.Silent(now):
		return c.putOff(ctx, id, certifyAgain)
	}
	// Whoever dies from here on leaves the guest alone for a while.
	if err := c.putOff(ctx, id, certifyAgain); err != nil {
		return err
	}
	call, cancel := context.WithTimeout(ctx, certifyTimeout)
	defer cancel()
	signed, err := Certify(call, c.cfg.Guests, c.cfg.Certifier, id, i.Hostname, i.Addresses)
	if err == nil {
		err = c.cfg.Guests.UseCertificate(call, id, guestapi.CertificateArgs{Certificate: string(signed.Chain)})
	}
	switch kind := trove.KindOf(err); {
	case err == nil:
	case kind == trove.KindNotImplemented:
		return c.putOff(ctx, id, certifyNever)
	case kind == trove.KindUnavailable, kind == trove.KindConflict, ctx.Err() != nil:
		return nil
	default:
		return errors.Join(err, c.putOff(ctx, id, certifyLater))
	}
	err = c.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		now, err := tx.Instance(ctx, id)
		if err != nil || !sameNames(&now, &i) {
			return err //nolint:wrapcheck // wrapped below; with other names it needs another one
		}
		return tx.PutCertificate(ctx, store.Certificate{InstanceID: id, AuthorityID: signed.AuthorityID, Ends: signed.Ends})
	})
	if err != nil && !trove.IsNotFound(err) {
		return fmt.Errorf("note the certificate of %s: %w", id, err)
	}
	c.cfg.Log.InfoContext(ctx, "database has a new certificate", "instance", id, "ends", signed.Ends)
	return nil
}

func sameNames(a, b *trove.Instance) bool {
	if len(a.Addresses) != len(b.Addresses) || a.Hostname != b.Hostname {
		return false
	}
	for i := range a.Addresses {
		if a.Addresses[i].Address != b.Addresses[i].Address {
			return false
		}
	}
	return true
}

// Certify makes a certificate for the key that the guest has for its next one.
func Certify(ctx context.Context, g Guests, c Certifier, id, hostname string, addresses []trove.Address) (engineca.Signed, error) {
	request, err := g.RequestCertificate(ctx, id)
	if err != nil {
		return engineca.Signed{}, fmt.Errorf("ask the guest of %s for a key: %w", id, err)
	}
	return c.Sign(ctx, engineca.Request{CSR: []byte(request.CSR), Instance: id, Hostname: hostname, Addresses: addresses}) //nolint:wrapcheck // says what
}

func (c *Certificates) putOff(ctx context.Context, id string, wait time.Duration) error {
	until := c.cfg.Clock.Now().Add(wait)
	err := c.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error { return tx.PutOffCertificate(ctx, id, until) })
	if err != nil {
		return fmt.Errorf("put off the certificate of %s: %w", id, err)
	}
	return nil
}
