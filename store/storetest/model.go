package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

// model is what a project's quota and the operation of each target should be.
type model struct {
	inUse, limit int
	open         map[string]string // target to operation
	held         map[string]store.OperationRow
	versions     map[string]int64
	now          time.Time
}

// testModel runs random histories against the model. Each history has targets and a project of its own, so that they can share the store.
func testModel(t *testing.T, s store.Store) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{limit: 10, open: map[string]string{}, held: map[string]store.OperationRow{}, versions: map[string]int64{}, now: Start}
		project, targets := trove.NewID(), []string{trove.NewID(), trove.NewID()}
		tx := func(fn func(ctx context.Context, tx store.Tx) error) error { return s.InTx(t.Context(), fn) }
		target := func() string { return rapid.SampledFrom(targets).Draw(rt, "target") }
		fatal := func(what string, err error) {
			if err != nil {
				rt.Fatalf("%s: %v", what, err)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"take": func(rt *rapid.T) {
				n := rapid.IntRange(0, 5).Draw(rt, "amount")
				err := tx(func(ctx context.Context, tx store.Tx) error {
					return tx.TakeQuota(ctx, project, map[string]int{trove.QuotaInstances: n})
				})
				fits := n == 0 || m.limit < 0 || m.inUse+n <= m.limit
				if fits != (err == nil) {
					rt.Fatalf("take %d with %d of %d in use: %v", n, m.inUse, m.limit, err)
				}
				if fits {
					m.inUse += n
				}
			},
			"give": func(rt *rapid.T) {
				n := rapid.IntRange(0, 5).Draw(rt, "amount")
				fatal("give", tx(func(ctx context.Context, tx store.Tx) error {
					return tx.GiveQuota(ctx, project, map[string]int{trove.QuotaInstances: n})
				}))
				m.inUse = max(0, m.inUse-n)
			},
			"limit": func(rt *rapid.T) {
				m.limit = rapid.IntRange(-1, 12).Draw(rt, "limit")
				fatal("limit", tx(func(ctx context.Context, tx store.Tx) error {
					return tx.SetQuota(ctx, project, trove.QuotaInstances, m.limit)
				}))
			},
			"enqueue": func(*rapid.T) {
				o := row(target())
				o.WakeAt = m.now
				err := tx(func(ctx context.Context, tx store.Tx) error { return tx.EnqueueOperation(ctx, o) })
				if _, busy := m.open[o.Target]; busy != errors.Is(err, store.ErrBusy) || !busy && err != nil {
					rt.Fatalf("enqueue with an open operation: %t: %v", busy, err)
				}
				if err == nil {
					m.open[o.Target] = o.ID
				}
			},
			"claim": func(*rapid.T) { m.claim(t, rt, s, target()) },
			"signal": func(*rapid.T) {
				fatal("signal", tx(func(ctx context.Context, tx store.Tx) error { return tx.SignalOperation(ctx, target(), m.now) }))
			},
			"release": func(rt *rapid.T) {
				h, ok := m.held[target()]
				if !ok {
					rt.Skip("not held")
				}
				h.Owner, h.WakeAt = "", m.now.Add(time.Minute)
				_, err := save(t, s, h, m.now)
				fatal("release", err)
				delete(m.held, h.Target)
			},
			"close": func(rt *rapid.T) {
				h, ok := m.held[target()]
				if !ok {
					rt.Skip("not held")
				}
				fatal("close", tx(func(ctx context.Context, tx store.Tx) error {
					return tx.CloseOperation(ctx, h, trove.OperationDone, m.now)
				}))
				delete(m.held, h.Target)
				delete(m.open, h.Target)
			},
			"wait": func(*rapid.T) { m.now = m.now.Add(5 * time.Second) },
			"": func(rt *rapid.T) {
				q := quotas(t, s, project)[trove.QuotaInstances]
				if q.InUse != m.inUse || q.Limit != m.limit {
					rt.Fatalf("the quota is %+v, want %d of %d", q, m.inUse, m.limit)
				}
				m.checkOpen(t, rt, s, targets)
			},
		})
	})
}

// claim takes a target's row if it is due; the former holder must be refused from then on.
func (m *model) claim(t *testing.T, rt *rapid.T, s store.Store, target string) {
	rows, err := s.DueOperations(t.Context(), m.now, 10_000)
	if err != nil {
		rt.Fatalf("due: %v", err)
	}
	for _, r := range rows {
		if r.ID != m.open[target] {
			continue
		}
		got, err := claim(t, s, r, "owner", m.now.Add(10*time.Second))
		if err != nil {
			rt.Fatalf("claim: %v", err)
		}
		if stale, ok := m.held[target]; ok {
			if _, err := save(t, s, stale, m.now); !errors.Is(err, store.ErrLost) {
				rt.Fatalf("the stale owner wrote: %v", err)
			}
		}
		m.held[target] = got
	}
}

// checkOpen compares which operations are open, and that versions never fall.
func (m *model) checkOpen(t *testing.T, rt *rapid.T, s store.Store, targets []string) {
	for _, target := range targets {
		o, err := s.OpenOperation(t.Context(), target)
		if want := m.open[target]; want != o.ID || (want == "") != trove.IsNotFound(err) {
			rt.Fatalf("the open operation is %q (%v), want %q", o.ID, err, want)
		}
		if o.Version < m.versions[o.ID] {
			rt.Fatalf("the version fell from %d to %d", m.versions[o.ID], o.Version)
		}
		m.versions[o.ID] = o.Version
	}
}
