package reconcilers

import (
	"context"
	"fmt"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
)

// downAfter is how long a database may be down by its own fault before that is an event of its own: its agent starts it again after seconds.
const downAfter = time.Minute

// Engines notes databases that do not get up: they failed, and their agent, which goes on trying, has had no success for a while. Nobody else could
// do better, so it is only written down, once for its beginning and once for its end.
type Engines struct {
	cfg Config

	mu   sync.Mutex
	seen map[string]down
}

// down is since when a database was seen down, and whether that was said.
type down struct {
	since time.Time
	said  bool
}

func newEngines(c Config) *Engines { return &Engines{cfg: c, seen: map[string]down{}} }

func (e *Engines) concerns(i *trove.Instance, _ time.Time) bool {
	e.mu.Lock()
	_, noted := e.seen[i.ID]
	e.mu.Unlock()
	return noted || engineDown(i)
}

func engineDown(i *trove.Instance) bool {
	return shouldRun(i) && i.ServerStatus == trove.ServerActive && i.Guest.Service == trove.ServiceCrashed
}

// ReconcileOne notes that the database is down, and says so when it is for too long, and when it is up again after that.
func (e *Engines) ReconcileOne(ctx context.Context, id string) error {
	i, err := e.cfg.Store.Instance(ctx, id)
	if trove.IsNotFound(err) {
		e.forget(id)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read instance %s: %w", id, err)
	}
	if !engineDown(&i) {
		if !e.forget(id) || !i.Guest.Service.Answering() {
			return nil
		}
		return say(ctx, e.cfg, id, trove.EventEngineBack, "The database is up again.")
	}
	since, due := e.note(id)
	if !due {
		return nil
	}
	e.cfg.Log.WarnContext(ctx, "database does not get up", "instance", id, "since", since)
	return say(ctx, e.cfg, id, trove.EventEngineDown,
		"The database does not get up. It is started again every half minute; the events before this one have the end of its log.")
}

// note remembers since when the database is down and reports, once, that this is too long.
func (e *Engines) note(id string) (since time.Time, due bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.cfg.Clock.Now()
	d, seen := e.seen[id]
	if !seen {
		d.since = now
	}
	due = !d.said && now.Sub(d.since) >= downAfter
	d.said = d.said || due
	e.seen[id] = d
	return d.since, due
}

// forget ends the memory of a database that was down and reports whether that was said.
func (e *Engines) forget(id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	d := e.seen[id]
	delete(e.seen, id)
	return d.said
}
