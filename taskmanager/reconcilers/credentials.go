package reconcilers

import (
	"context"
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/store"
)

// Credentials renews the credentials of guests at half their life, for the key that each guest made, and at once when what they tell of the bus has
// changed: its addresses or the CAs to believe. It looks more often than the other reconcilers where credentials live short.
type Credentials struct {
	cfg Config
	one func(ctx context.Context, name, id string, reconcile func(context.Context, string) error)

	mu      sync.Mutex
	trust   string               // as of the last look
	looked  map[string]time.Time // by instance
	alarmed map[string]bool      // instances whose machine was copied
}

// atOnce is how many guests are handed a credential at the same time.
const atOnce = 16

func newCredentials(c Config, one func(context.Context, string, string, func(context.Context, string) error)) *Credentials {
	return &Credentials{cfg: c, one: one, looked: map[string]time.Time{}, alarmed: map[string]bool{}}
}

// interval is how often all instances are looked at.
func (c *Credentials) interval() time.Duration {
	return min(max(c.cfg.CredentialLife/20, 500*time.Millisecond), c.cfg.Interval)
}

// look is how often one instance's credential is read.
func (c *Credentials) look() time.Duration {
	return min(max(c.cfg.CredentialLife/144, c.interval()), 10*time.Minute)
}

// Run looks until the context ends.
func (c *Credentials) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := c.Once(ctx); err != nil && ctx.Err() == nil {
			c.cfg.Log.WarnContext(ctx, "credentials of guests could not be looked at", "err", err)
		}
		if clock.Sleep(ctx, c.interval()) != nil {
			return
		}
	}
}

// Once looks at the guests of all instances.
func (c *Credentials) Once(ctx context.Context) error {
	c.notice()
	slots := make(chan struct{}, atOnce)
	var running sync.WaitGroup
	defer running.Wait()
	marker := ""
	for {
		list, err := c.cfg.Store.Instances(ctx, store.InstanceFilter{Marker: marker, Limit: page})
		if err != nil {
			return fmt.Errorf("read instances: %w", err)
		}
		now := c.cfg.Clock.Now()
		for i := range list {
			if !c.concerns(&list[i], now) {
				continue
			}
			slots <- struct{}{}
			id := list[i].ID
			running.Go(func() {
				defer func() { <-slots }()
				c.one(ctx, "credentials", id, c.ReconcileOne)
			})
		}
		if len(list) < page || ctx.Err() != nil {
			return ctx.Err()
		}
		marker = list[len(list)-1].ID
	}
}

// announced returns what a new credential would tell; "" if the issuer does not say.
func (c *Credentials) announced() string {
	if a, ok := c.cfg.Issuer.(bus.Announcer); ok {
		return a.Trust()
	}
	return ""
}

// notice makes all guests due for a look when there is news for them.
func (c *Credentials) notice() {
	trust := c.announced()
	c.mu.Lock()
	defer c.mu.Unlock()
	if trust != c.trust {
		c.trust = trust
		clear(c.looked)
	}
}

func (c *Credentials) concerns(i *trove.Instance, now time.Time) bool {
	if i.Guest.SeenAt.IsZero() || i.Silent(now) || i.Stopped() || i.Task == trove.TaskDeleting {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return now.Sub(c.looked[i.ID]).Abs() >= c.look() // a clock that was set back must not stop it
}

// ReconcileOne issues a new credential if the present one gets old or tells the guest what is no longer so, and hands it over. It is only noted when the
// guest took it.
func (c *Credentials) ReconcileOne(ctx context.Context, id string) error {
	now := c.cfg.Clock.Now()
	g, err := c.cfg.Store.Guest(ctx, id)
	if trove.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the guest of %s: %w", id, err)
	}
	if c.copied(ctx, id, g) || g.PublicKey == "" || !c.due(g, now) {
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
		if err := tx.SetGuestCredential(ctx, id, credential.Expires); err != nil {
			return err
		}
		return tx.SetGuestTrust(ctx, id, credential.Trust())
	})
	if err != nil {
		return fmt.Errorf("note the credential of %s: %w", id, err)
	}
	c.done(id, now)
	c.cfg.Log.InfoContext(ctx, "guest credential was renewed", "instance", id, "expires", credential.Expires, "news", g.Trust != credential.Trust())
	return nil
}

func (c *Credentials) due(g store.Guest, now time.Time) bool {
	if trust := c.announced(); trust != "" && trust != g.Trust {
		return true
	}
	return renewalDue(g.InstanceID, g.CredentialEnds, now, c.cfg.CredentialLife)
}

// renewalDue says whether half of a credential's life is over, or up to an eighth less, which differs by instance: those that were made together shall
// not be renewed together. One that ends later than any that is issued now was issued while the clock was wrong.
func renewalDue(id string, ends, now time.Time, life time.Duration) bool {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	early := life / 8 / 1024 * time.Duration(h.Sum32()%1024)
	left := ends.Sub(now)
	return left <= life/2+early || left > life+life/4
}

// copied raises the alarm when two machines report as one, and says that nothing is renewed: both have the key, and which of them is the right one only
// people can tell.
func (c *Credentials) copied(ctx context.Context, id string, g store.Guest) bool {
	c.mu.Lock()
	told, now := c.alarmed[id], g.Copied()
	if now {
		c.alarmed[id] = true
	} else {
		delete(c.alarmed, id)
	}
	c.mu.Unlock()
	if now && !told {
		c.cfg.Log.ErrorContext(ctx, "alarm: two machines report as the guest of one instance; its credential is not renewed", "instance", id)
		c.tell(ctx, trove.InstanceEvent{
			InstanceID: id, At: c.cfg.Clock.Now(), Kind: trove.EventGuestCopied,
			Sentence: "Two machines report as the guest of this instance: one is a copy. Its credential is not renewed. Remove the copy, then run: trove manage guest clear " + id,
		})
	}
	return now
}

func (c *Credentials) tell(ctx context.Context, e trove.InstanceEvent) {
	err := c.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error { return tx.CountInstanceEvent(ctx, e, eventWithin) })
	if err != nil {
		c.cfg.Log.WarnContext(ctx, "event could not be noted", "instance", e.InstanceID, "err", err)
	}
}

// eventWithin is how long the same event is counted instead of written again.
const eventWithin = 24 * time.Hour

func (c *Credentials) done(id string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looked[id] = now
	for other, at := range c.looked { // instances that are gone are not looked at any more
		if now.Sub(at) > 2*c.look() {
			delete(c.looked, other)
		}
	}
}
