package grant

import (
	"context"
	"fmt"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/store"
)

// Spec is what a controller wants a guest to be allowed.
type Spec struct {
	Instance  string
	Container backupstore.Container
	Method    string // GET or PUT
	Prefix    string // with a slash at its end
	MaxBytes  int64  // with PUT
	Life      time.Duration
	Operation string // durable operation that the grant ends with; "": none
}

// Issuer makes grants for guests.
type Issuer struct {
	keys   *Keyring
	guests Guests
	urls   func() ([]string, error)
	clock  clock.Clock
}

// Guests knows the keys of guests; a store does.
type Guests interface {
	Guest(ctx context.Context, instance string) (store.Guest, error)
}

// NewIssuer returns an issuer; urls says where gateways are, each time anew.
func NewIssuer(keys *Keyring, guests Guests, urls func() ([]string, error), c clock.Clock) *Issuer {
	return &Issuer{keys: keys, guests: guests, urls: urls, clock: c}
}

// Issue makes a grant for the guest that the instance has now. Unavailable if it has none, or if no gateway is known yet.
func (i *Issuer) Issue(ctx context.Context, s Spec) (guestapi.Grant, error) {
	guest, err := i.guests.Guest(ctx, s.Instance)
	if err != nil {
		return guestapi.Grant{}, fmt.Errorf("make a grant for the guest of %s: %w", s.Instance, err)
	}
	if guest.PublicKey == "" {
		return guestapi.Grant{}, trove.Errorf(trove.KindUnavailable, "The guest of the instance has not enrolled yet.")
	}
	urls, err := i.urls()
	if err != nil || len(urls) == 0 {
		return guestapi.Grant{}, trove.Wrap(trove.KindUnavailable, err, "No object gateway is known at the moment.")
	}
	g := Grant{
		Instance: s.Instance, Key: guest.PublicKey, Container: s.Container, Method: s.Method, Prefix: s.Prefix, MaxBytes: s.MaxBytes,
		Expires: i.clock.Now().Add(s.Life).Truncate(time.Second), Operation: s.Operation,
	}
	token, err := i.keys.Sign(g)
	if err != nil {
		return guestapi.Grant{}, err
	}
	return guestapi.Grant{URLs: urls, Method: g.Method, Prefix: g.Prefix, MaxBytes: g.MaxBytes, Expires: g.Expires, Token: token.Reveal()}, nil
}
