package conductor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/exposition"
	"github.com/trove-dbaas/trove/internal/figures"
	"github.com/trove-dbaas/trove/store"
)

const (
	fleetAtOnce  = 16              // guests that are asked at the same time
	fleetTimeout = 5 * time.Second // for one of them
	fleetPage    = 500
)

// Measurer asks guests for figures; *guestapi.Client is one.
type Measurer interface {
	Metrics(ctx context.Context, instance string, args guestapi.MetricsArgs) (guestapi.Metrics, error)
}

// FleetConfig is what a Fleet works with.
type FleetConfig struct {
	Store    store.Reader
	Guests   Measurer
	Clock    clock.Clock
	Log      *slog.Logger
	Interval time.Duration // between two questions to a guest
	Series   int           // of one guest at most; 0: guests are not asked, and what the control plane knows is all there is
}

// Fleet tells the figures of all instances on one page for Prometheus, with project and instance as labels.
//
// What the control plane knows comes from the store when the page is asked for. What databases say of themselves is asked for now and then by Run, a few
// guests at a time, and kept: a scrape costs no guest anything, and one that is slow delays nobody. A guest's words are its tenant's. So the page is not
// part of the process's own registry, where one family of another type or help would refuse everything: the first type that is heard of a name holds, and
// those that differ are left out.
type Fleet struct {
	cfg FleetConfig

	mu   sync.Mutex
	said map[string]guestapi.Metrics // by instance
}

// NewFleet makes a Fleet. It asks nobody before Run.
func NewFleet(c FleetConfig) (*Fleet, error) {
	if c.Store == nil || c.Guests == nil || c.Clock == nil || c.Log == nil || c.Interval <= 0 || c.Series < 0 {
		return nil, errors.New("conductor: a fleet needs store, guests, clock, log and an interval")
	}
	return &Fleet{cfg: c, said: map[string]guestapi.Metrics{}}, nil
}

// Run asks the guests until the context ends, and returns nil.
func (f *Fleet) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if f.cfg.Series > 0 {
			f.look(ctx)
		}
		_ = clock.Sleep(ctx, f.cfg.Interval) // its error is the context's, which the loop looks at
	}
	return nil
}

func (f *Fleet) look(ctx context.Context) {
	if err := f.Once(ctx); err != nil && ctx.Err() == nil {
		f.cfg.Log.WarnContext(ctx, "guests were not measured", "err", err)
	}
}

// Once asks every guest whose database answers.
func (f *Fleet) Once(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, fleetAtOnce)
	living := map[string]bool{}
	err := f.each(ctx, func(i *trove.Instance) {
		if !figures.Measurable(i, f.cfg.Clock.Now()) {
			return
		}
		id := i.ID
		living[id] = true
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			f.ask(ctx, id)
		})
	})
	if err != nil {
		return err
	}
	wg.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.said, func(id string, _ guestapi.Metrics) bool { return !living[id] })
	return nil
}

// ask keeps what a guest says. Of one that does not answer nothing is kept: old figures would look like new ones.
func (f *Fleet) ask(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, fleetTimeout)
	defer cancel()
	m, err := f.cfg.Guests.Metrics(ctx, id, guestapi.MetricsArgs{Series: f.cfg.Series})
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.cfg.Log.DebugContext(ctx, "guest was not measured", "instance", id, "err", err)
		delete(f.said, id)
		return
	}
	f.said[id] = m
}

func (f *Fleet) each(ctx context.Context, do func(i *trove.Instance)) error {
	for marker := ""; ; {
		list, err := f.cfg.Store.Instances(ctx, store.InstanceFilter{Marker: marker, Limit: fleetPage})
		if err != nil {
			return fmt.Errorf("read instances: %w", err)
		}
		for n := range list {
			do(&list[n])
		}
		if len(list) < fleetPage {
			return ctx.Err()
		}
		marker = list[len(list)-1].ID
	}
}

// page is what is told, a family after the other.
type page struct {
	of map[string]*pageFamily
}

type pageFamily struct {
	help    string
	counter bool
	text    []byte
}

// add takes a family of one instance in.
func (p *page) add(f *guestapi.MetricFamily, labels []exposition.Label) {
	known, ok := p.of[f.Name]
	if !ok {
		known = &pageFamily{help: f.Help, counter: f.Counter}
		p.of[f.Name] = known
	}
	if known.counter == f.Counter {
		known.text = exposition.AppendSeries(known.text, f, labels...)
	}
}

// ServeHTTP writes the page.
func (f *Fleet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, err := f.text(r.Context())
	if err != nil {
		f.cfg.Log.ErrorContext(r.Context(), "metrics of instances were not told", "err", err)
		http.Error(w, "The instances cannot be read.", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", exposition.ContentType)
	_, _ = w.Write(text) // a client that is gone has nothing to be told
}

func (f *Fleet) text(ctx context.Context) ([]byte, error) {
	all, err := f.cfg.Store.DatastoreVersions(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("read the datastore versions: %w", err)
	}
	versions := make(map[string]*trove.DatastoreVersion, len(all))
	for n := range all {
		versions[all[n].ID] = &all[n]
	}
	p := page{of: map[string]*pageFamily{}}
	now := f.cfg.Clock.Now()
	err = f.each(ctx, func(i *trove.Instance) {
		f.mu.Lock()
		said, asked := f.said[i.ID]
		f.mu.Unlock()
		labels := []exposition.Label{{Name: "project", Value: i.ProjectID}, {Name: "instance", Value: i.ID}}
		version := cmp.Or(versions[i.DatastoreVersionID], &trove.DatastoreVersion{})
		for _, own := range figures.Own(i, version, now, asked, said.Left) {
			p.add(&own, labels)
		}
		for n := range said.Families {
			if family := &said.Families[n]; !figures.IsOwn(family.Name) {
				p.add(family, labels)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	var text []byte
	for _, name := range slices.Sorted(maps.Keys(p.of)) {
		text = append(exposition.AppendHead(text, name, p.of[name].help, p.of[name].counter), p.of[name].text...)
	}
	return text, nil
}
