package workflow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/telemetry"
	"github.com/trove-dbaas/trove/store"
)

// Config is what an Engine works with.
type Config struct {
	Store       store.Store
	Definitions []*Definition
	Clock       clock.Clock           // nil: the machine's
	Log         *slog.Logger          // nil: nothing is logged
	Metrics     prometheus.Registerer // nil: no metrics

	// Owner names this process in the rows that it holds, at most 40 characters. It must be new for every start: "" for a random one.
	Owner   string
	Workers int           // how many operations run at the same time, 16 if 0
	Lease   time.Duration // how long a claim holds without renewal, 10 s if 0
	Poll    time.Duration // how often due rows are looked for without a wake-up, 1 s if 0
	// Alone says that no other engine works on the store: a lock keeps others away. What an engine that died held is then taken over soon after the
	// start; otherwise it is due when its leases end.
	Alone bool
	// Pause says that nothing may be claimed now: what runs goes on. nil: never.
	Pause func() bool
	// Wake tells the engines of other processes that there is work; nil: there are none, or they poll.
	Wake func(ctx context.Context)
}

// Engine runs operations. Any number of engines may share a store.
type Engine struct {
	cfg     Config
	defs    map[string]*Definition
	metrics *metrics
	wake    chan struct{}
	claims  atomic.Int64
	slots   chan struct{}

	mu   sync.Mutex
	held map[string]bool // the operations that run here by id; true: one was due again while it was still held
	fair shares
}

// candidates is how many due rows are read at once. They are tried in random order: with the oldest first, several engines would all reach for
// the same row (61 % of the claims were lost in a measurement with four; 2 to 9 % in random order).
const candidates = 64

// manyCandidates is how many are read where those of one project fill what is read at once.
const manyCandidates = 4096

// New makes an Engine. It starts nothing.
func New(cfg Config) (*Engine, error) {
	if cfg.Store == nil {
		return nil, errors.New("workflow: a store is needed")
	}
	cfg.Owner = cmp.Or(cfg.Owner, trove.NewID())
	cfg.Workers = cmp.Or(cfg.Workers, 16)
	cfg.Lease = cmp.Or(cfg.Lease, 10*time.Second)
	cfg.Poll = cmp.Or(cfg.Poll, time.Second)
	if cfg.Clock == nil {
		cfg.Clock = clock.System{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if len(cfg.Owner) > 40 {
		return nil, fmt.Errorf("workflow: the owner %q is longer than 40 characters", cfg.Owner)
	}
	e := &Engine{
		cfg: cfg, defs: map[string]*Definition{}, wake: make(chan struct{}, 1), slots: make(chan struct{}, cfg.Workers), held: map[string]bool{},
		fair: newShares(cfg.Workers),
	}
	for _, d := range cfg.Definitions {
		if err := check(d); err != nil {
			return nil, err
		}
		if e.defs[d.Kind] != nil {
			return nil, fmt.Errorf("workflow: two definitions of %s", d.Kind)
		}
		e.defs[d.Kind] = d
	}
	var err error
	if e.metrics, err = newMetrics(cfg.Metrics, cfg.Store); err != nil {
		return nil, err
	}
	return e, nil
}

func check(d *Definition) error {
	if d.Kind == "" || len(d.Steps) == 0 {
		return fmt.Errorf("workflow: the definition %q needs a kind and steps", d.Kind)
	}
	seen := map[string]bool{}
	for _, s := range d.Steps {
		if s.Name == "" || s.Do == nil || seen[s.Name] {
			return fmt.Errorf("workflow: a step of %s (%q) needs a name of its own and something to do", d.Kind, s.Name)
		}
		seen[s.Name] = true
	}
	return nil
}

// StepNames lists kinds and steps, one a line, for the golden file that keeps the names frozen.
func StepNames(defs ...*Definition) string {
	var b strings.Builder
	for _, d := range defs {
		for n, s := range d.Steps {
			undo := ""
			if s.Undo != nil {
				undo = " undo"
			}
			fmt.Fprintf(&b, "%s %d %s%s\n", d.Kind, n, s.Name, undo)
		}
	}
	return b.String()
}

// Wake makes the engine look for due operations at once. It never blocks.
func (e *Engine) Wake() {
	select {
	case e.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// Signal says that something has happened to the target that its operation may wait for. The evidence must be committed before. Without an open
// operation it is a no-op.
func (e *Engine) Signal(ctx context.Context, target string) error {
	err := e.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		return tx.SignalOperation(ctx, target, e.cfg.Clock.Now())
	})
	if err != nil {
		return fmt.Errorf("signal %s: %w", target, err)
	}
	e.wakeAll(ctx)
	return nil
}

// Cancel asks an open operation to stop and undo; NotFound if it is not open. It returns before that has happened.
func (e *Engine) Cancel(ctx context.Context, id string) error {
	err := e.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		return tx.CancelOperation(ctx, id, e.cfg.Clock.Now())
	})
	if err != nil {
		return fmt.Errorf("cancel operation %s: %w", id, err)
	}
	e.wakeAll(ctx)
	return nil
}

func (e *Engine) wakeAll(ctx context.Context) {
	e.Wake()
	if e.cfg.Wake != nil {
		e.cfg.Wake(ctx)
	}
}

// Run carries out operations until the context ends. Then it cuts off the running steps, gives their leases back and returns nil when
// all is still. It may be called once.
func (e *Engine) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	if e.cfg.Alone {
		e.takeOver(ctx)
	}
	poll := time.NewTicker(e.cfg.Poll)
	defer poll.Stop()
	for {
		more, err := false, error(nil)
		if e.cfg.Pause == nil || !e.cfg.Pause() {
			more, err = e.dispatch(ctx, &wg)
		}
		if err != nil && ctx.Err() == nil {
			e.cfg.Log.WarnContext(ctx, "due operations not read", "err", err)
		}
		if more {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-poll.C:
		case <-e.wake:
		}
	}
}

// afterlife is how long what an engine that died had started may go on: programs that it called do not die with it.
const afterlife = 500 * time.Millisecond

// takeOver makes the operations due that an engine held which is dead. If that cannot be written they are due when their leases end.
func (e *Engine) takeOver(ctx context.Context) {
	n := 0
	err := e.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		n, err = tx.TakeOverOperations(ctx, e.cfg.Clock.Now().Add(afterlife))
		return err
	})
	switch {
	case err != nil:
		e.cfg.Log.WarnContext(ctx, "operations of an earlier process were not taken over yet", "err", err)
	case n > 0:
		e.cfg.Log.InfoContext(ctx, "operations of an earlier process were taken over", "operations", n)
		time.AfterFunc(afterlife, e.Wake)
	}
}

// dispatch starts what is due and reports whether there may be more at once. A project that has its share of the workers waits.
func (e *Engine) dispatch(ctx context.Context, wg *sync.WaitGroup) (more bool, err error) {
	limit := candidates
	for {
		due, err := e.due(ctx, limit)
		if err != nil {
			return false, err
		}
		skipped := 0
		for _, row := range due {
			if !e.fair.take(row.ProjectID) {
				skipped++
				continue
			}
			select {
			case <-ctx.Done():
				e.fair.give(row.ProjectID)
				return false, nil
			case e.slots <- struct{}{}:
			}
			wg.Go(func() {
				defer func() {
					<-e.slots
					if e.fair.give(row.ProjectID) {
						e.Wake()
					}
				}()
				if _, err := e.runRow(ctx, row); err != nil && ctx.Err() == nil {
					e.cfg.Log.WarnContext(ctx, "operation dropped", "op", row.ID, "instance", row.Target, "err", err)
				}
			})
		}
		full := len(due) >= limit
		switch {
		case !full || skipped == 0:
			return full, nil
		case limit >= manyCandidates:
			return false, nil
		}
		limit = manyCandidates // those of one project must not hide those of others
	}
}

// due returns due rows in random order, without those that run here.
func (e *Engine) due(ctx context.Context, limit int) ([]store.OperationRow, error) {
	rows, err := e.cfg.Store.DueOperations(ctx, e.cfg.Clock.Now(), limit)
	if err != nil {
		return nil, fmt.Errorf("look for due operations: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	free := rows[:0]
	for _, r := range rows {
		if _, held := e.held[r.ID]; held {
			e.held[r.ID] = true
		} else {
			free = append(free, r)
		}
	}
	rand.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] }) //nolint:gosec // spreads the claims, guards nothing
	return free, nil
}

// RunOne claims one due operation and runs its steps until it is released or closed; false if nothing was due. It is for tests and for tools that
// carry on by hand; Run does the same for many.
func (e *Engine) RunOne(ctx context.Context) (bool, error) {
	due, err := e.due(ctx, candidates)
	if err != nil {
		return false, err
	}
	for _, row := range due {
		ran, err := e.runRow(ctx, row)
		if ran || err != nil {
			return ran, err
		}
	}
	return false, nil
}

// runRow claims a row and works on it; false if somebody else has it.
func (e *Engine) runRow(ctx context.Context, seen store.OperationRow) (bool, error) {
	if !e.hold(seen.ID) {
		return false, nil
	}
	defer e.letGo(seen.ID)
	if seen.RequestID != "" {
		ctx = telemetry.WithRequestID(ctx, seen.RequestID)
	}
	r, err := e.claim(ctx, seen)
	if errors.Is(err, store.ErrLost) {
		e.metrics.lostClaims.Inc()
		return false, nil
	}
	if err != nil || r == nil {
		return r != nil, err
	}
	defer r.lease.end()
	for {
		again, err := r.once(ctx)
		if errors.Is(err, store.ErrLost) {
			e.cfg.Log.WarnContext(ctx, "operation lost to another worker", "op", seen.ID, "instance", seen.Target)
			return true, nil
		}
		if err != nil || !again {
			return true, err
		}
	}
}

func (e *Engine) hold(id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, held := e.held[id]; held {
		e.held[id] = true
		return false
	}
	e.held[id] = false
	e.metrics.running.Set(float64(len(e.held)))
	return true
}

func (e *Engine) letGo(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.held[id] {
		e.Wake() // the wake-up for it came too early, and there may be no other before the poll
	}
	delete(e.held, id)
	e.metrics.running.Set(float64(len(e.held)))
}
