package reconcilers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/store"
)

// Configurations tells guests what their configuration groups say, where the request that changed it could not: the guest was away, the instance at work
// or stopped, or the API died in the middle. The store is the truth; telling a guest what it has already changes nothing.
type Configurations struct{ cfg Config }

const (
	// tellWithin is how long this try has until the next one may begin; the call itself has tellTimeout.
	tellWithin  = time.Minute
	tellTimeout = 5 * time.Second
	// tellAgain is when a guest that does not answer is told again, restAgain an instance that is stopped is looked at again.
	tellAgain = 15 * time.Second
	restAgain = time.Minute
	// refusedAgain is how long a database that refuses its configuration is left alone. Only a change of the group, or of the database, helps.
	refusedAgain = 10 * time.Minute
	tellAtOnce   = 200 // instances in one round
)

// Overrides returns what an instance's configuration group says, nil if it has none.
func Overrides(ctx context.Context, r store.Reader, i *trove.Instance) (map[string]json.RawMessage, error) {
	if i.ConfigurationID == "" {
		return nil, nil //nolint:nilnil // no group, no overrides
	}
	g, err := r.Configuration(ctx, i.ConfigurationID)
	if trove.IsNotFound(err) {
		return nil, nil //nolint:nilnil // as good as none
	}
	if err != nil {
		return nil, fmt.Errorf("read the configuration group of %s: %w", i.ID, err)
	}
	return g.Overrides(), nil
}

// Candidates returns instances whose guests are to be told.
func (c *Configurations) Candidates(ctx context.Context) ([]string, error) {
	ids, err := c.cfg.Store.LateConfigurations(ctx, c.cfg.Clock.Now(), tellAtOnce)
	if err != nil {
		return nil, fmt.Errorf("look for configurations that are late: %w", err)
	}
	return ids, nil
}

// attempt is what a guest is told.
type attempt struct {
	instance  trove.Instance
	revision  int64
	overrides map[string]json.RawMessage
	later     bool // the instance is at work or stopped, or its guest silent
}

// errChanged says that the store says something else by now.
var errChanged = errors.New("the configuration was changed meanwhile")

// ReconcileOne tells one guest.
func (c *Configurations) ReconcileOne(ctx context.Context, id string) error {
	a, err := c.begin(ctx, id)
	if trove.IsNotFound(err) || err == nil && a.later {
		return nil
	}
	if err != nil {
		return err
	}
	call, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	done, err := c.cfg.Guests.ApplyConfiguration(call, id, guestapi.ApplyConfigurationArgs{Revision: a.revision, Overrides: a.overrides})
	switch kind := trove.KindOf(err); {
	case err == nil:
	case kind == trove.KindUnavailable, kind == trove.KindConflict, ctx.Err() != nil:
		return c.putOff(ctx, id, tellAgain)
	default:
		return errors.Join(err, c.refused(ctx, id, err))
	}
	err = c.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error { return c.end(ctx, tx, a, len(done.Restart) > 0) })
	if errors.Is(err, errChanged) {
		return nil // whoever changed it has told the guest, or this does when it is due
	}
	if err != nil {
		return fmt.Errorf("note that %s has its configuration: %w", id, err)
	}
	c.cfg.Log.InfoContext(ctx, "guest was told its configuration", "instance", id)
	return nil
}

// begin reads what the guest is to be told, and keeps others from telling it meanwhile.
func (c *Configurations) begin(ctx context.Context, id string) (a attempt, err error) {
	err = c.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		if a.instance, err = tx.Instance(ctx, id); err != nil {
			return err //nolint:wrapcheck // wrapped below
		}
		now, wait := c.cfg.Clock.Now(), tellWithin
		switch i := &a.instance; {
		case i.Stopped():
			a.later, wait = true, restAgain
		case !shouldRun(i), i.ServerStatus != trove.ServerActive, i.Silent(now):
			a.later, wait = true, tellAgain
		}
		if a.overrides, err = Overrides(ctx, tx, &a.instance); err != nil {
			return err
		}
		a.revision, err = tx.BeginConfiguration(ctx, id, now, now.Add(wait))
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return a, fmt.Errorf("read the configuration of %s: %w", id, err)
	}
	return a, nil
}

// end writes that the guest has what the store says, if it still says so.
func (c *Configurations) end(ctx context.Context, tx store.Tx, a attempt, restart bool) error {
	err := tx.UpdateInstance(ctx, a.instance.ID, c.cfg.Clock.Now(), func(i *trove.Instance) error {
		if !shouldRun(i) || i.ConfigurationID != a.instance.ConfigurationID {
			return errChanged
		}
		i.Task = trove.TaskNone
		if restart {
			i.Task = trove.TaskRestartRequired
		}
		return nil
	})
	if err != nil {
		return err //nolint:wrapcheck // the caller wraps
	}
	now, err := Overrides(ctx, tx, &a.instance)
	if err != nil {
		return err
	}
	if !sameOverrides(now, a.overrides) {
		return errChanged
	}
	if err := tx.EndConfiguration(ctx, a.instance.ID, a.revision); err != nil {
		return err //nolint:wrapcheck // the caller wraps
	}
	return tx.SetConfigurationRestart(ctx, a.instance.ID, restart) //nolint:wrapcheck // the caller wraps
}

func sameOverrides(a, b map[string]json.RawMessage) bool {
	for name, value := range a {
		if string(b[name]) != string(value) {
			return false
		}
	}
	return len(a) == len(b)
}

// putOff leaves the guest alone for a while.
func (c *Configurations) putOff(ctx context.Context, id string, wait time.Duration) error {
	now := c.cfg.Clock.Now()
	err := c.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		_, err := tx.BeginConfiguration(ctx, id, now, now.Add(wait))
		return err //nolint:wrapcheck // wrapped below
	})
	if err != nil {
		return fmt.Errorf("put off the configuration of %s: %w", id, err)
	}
	return nil
}

// refused says so in the instance's timeline, where its owner can read it.
func (c *Configurations) refused(ctx context.Context, id string, cause error) error {
	if err := c.putOff(ctx, id, refusedAgain); err != nil {
		return err
	}
	return say(ctx, c.cfg, id, trove.EventConfigurationRefused, "The database does not take its configuration group: "+trove.MessageOf(cause))
}
