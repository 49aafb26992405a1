package reconcilers

import (
	"context"
	"fmt"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

// pingTimeout bounds the question to a silent guest.
const pingTimeout = 2 * time.Second

// Silence notes guests that are not heard of although their machine should run. It only asks and writes to the log: a guest that is cut
// off may serve its clients well, and a restart would not. Machines that do not run are the business of Machines.
type Silence struct {
	cfg Config

	mu    sync.Mutex
	since map[string]time.Time // when the silence was noted
}

func newSilence(c Config) *Silence { return &Silence{cfg: c, since: map[string]time.Time{}} }

func (s *Silence) concerns(i *trove.Instance, now time.Time) bool {
	s.mu.Lock()
	_, noted := s.since[i.ID]
	s.mu.Unlock()
	return noted || shouldRun(i) && i.ServerStatus == trove.ServerActive && i.Silent(now)
}

// ReconcileOne notes the beginning and the end of a silence, once each.
func (s *Silence) ReconcileOne(ctx context.Context, id string) error {
	i, err := s.cfg.Store.Instance(ctx, id)
	if trove.IsNotFound(err) {
		s.end(id)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read instance %s: %w", id, err)
	}
	if !shouldRun(&i) || !i.Silent(s.cfg.Clock.Now()) {
		if since, was := s.end(id); was && !i.Stopped() {
			s.cfg.Log.InfoContext(ctx, "guest was heard of again", "instance", id, "took", s.cfg.Clock.Now().Sub(since))
		}
		return nil
	}
	if !s.begin(id) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	_, err = s.cfg.Guests.Ping(ctx, id)
	s.cfg.Log.WarnContext(ctx, "guest was silent", "instance", id, "seen", i.Guest.SeenAt, "answers", err == nil, "err", err)
	return nil
}

func (s *Silence) begin(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, noted := s.since[id]; noted {
		return false
	}
	s.since[id] = s.cfg.Clock.Now()
	return true
}

func (s *Silence) end(id string) (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	since, noted := s.since[id]
	delete(s.since, id)
	return since, noted
}

// renewBefore is how long before its end a credential is renewed: half of the 24 hours that it lives.
const renewBefore = 12 * time.Hour

// credentialLook is how often one instance's credential is looked at.
const credentialLook = 10 * time.Minute

// Credentials renews the credentials of guests at half their life, for the key that each guest made.
type Credentials struct {
	cfg Config

	mu     sync.Mutex
	looked map[string]time.Time
}

func newCredentials(c Config) *Credentials {
	return &Credentials{cfg: c, looked: map[string]time.Time{}}
}

func (c *Credentials) concerns(i *trove.Instance, now time.Time) bool {
	if i.Guest.SeenAt.IsZero() || i.Silent(now) || i.Stopped() || i.Task == trove.TaskDeleting {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return now.Sub(c.looked[i.ID]) >= credentialLook
}

// ReconcileOne issues a new credential if the present one ends soon, and hands it to the guest. It is only noted when the guest took it.
func (c *Credentials) ReconcileOne(ctx context.Context, id string) error {
	now := c.cfg.Clock.Now()
	g, err := c.cfg.Store.Guest(ctx, id)
	if trove.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the guest of %s: %w", id, err)
	}
	if g.PublicKey == "" || g.CredentialEnds.Sub(now) > renewBefore {
		c.done(id, now)
		return nil
	}
	credential, err := c.cfg.Issuer.IssueGuest(ctx, id, g.PublicKey)
	if err != nil {
		return fmt.Errorf("issue a credential for %s: %w", id, err)
	}
	if err := c.cfg.Guests.RenewIdentity(ctx, id, credential); err != nil {
		return fmt.Errorf("hand the credential to the guest of %s: %w", id, err)
	}
	err = c.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		return tx.SetGuestCredential(ctx, id, credential.Expires)
	})
	if err != nil {
		return fmt.Errorf("note the credential of %s: %w", id, err)
	}
	c.done(id, now)
	c.cfg.Log.InfoContext(ctx, "guest credential was renewed", "instance", id, "expires", credential.Expires)
	return nil
}

func (c *Credentials) done(id string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looked[id] = now
	for other, at := range c.looked { // instances that are gone are not looked at any more
		if now.Sub(at) > 2*credentialLook {
			delete(c.looked, other)
		}
	}
}
