package messages_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/engine/fake"
)

// state is what an operation leads to, without times and numbers.
type state struct {
	Operation trove.OperationState
	Status    string // of the instance, "" when it is gone
	Service   trove.ServiceStatus
	Fault     string
	Flavor    string
	Volume    int
	Held      map[string]int
	Quotas    map[string]int
	Cloud     []string
	Machine   cloud.MachineState
	Image     string          // of the machine
	Kept      string          // version of the data that is kept, "" for none
	Database  bool            // its process runs
	Contents  string          // databases and users
	Events    map[string]bool // kinds of events, without the database's statuses: some are passed through so quickly that one may be missed
}

func (w *world) look(ctx context.Context, op trove.Operation) (state, error) {
	s := state{Operation: op.State, Quotas: map[string]int{}, Cloud: w.cloud.Leftovers(), Events: map[string]bool{}}
	i, err := w.store.Instance(ctx, instanceID)
	if err == nil {
		s.Status, s.Service, s.Flavor, s.Volume, s.Held = i.Status(false), i.Guest.Service, i.FlavorID, i.VolumeSize, i.Held
		if i.Fault != nil {
			s.Fault = i.Fault.Message
		}
	} else if !trove.IsNotFound(err) {
		return s, err
	}
	quotas, err := w.store.Quotas(ctx, project)
	if err != nil {
		return s, err
	}
	for _, q := range quotas {
		s.Quotas[q.Resource] = q.InUse
	}
	if m, err := w.cloud.FindMachine(ctx, instanceID); err == nil {
		s.Machine, s.Image = m.State, m.ImageID
	}
	k, err := w.store.KeptData(ctx, instanceID)
	if err != nil && !trove.IsNotFound(err) {
		return s, err
	}
	s.Kept = k.DatastoreVersionID
	if layout, runs := w.guests.Layout(instanceID); runs {
		databases, err := fake.New().Databases(ctx, layout)
		users, err2 := fake.New().Users(ctx, layout)
		s.Database = err == nil && err2 == nil
		for n := range users {
			users[n].Password = ""
		}
		s.Contents = fmt.Sprint(databases, users)
	}
	events, err := w.store.InstanceEvents(ctx, instanceID, 0, 0)
	for _, e := range events {
		if !strings.HasPrefix(e.Kind, trove.EventDatabase) {
			s.Events[e.Kind] = true
		}
	}
	return s, err
}

// run carries out one operation in a world of its own, with the knob set after all that comes before. It returns the state and the number of messages.
func run(ctx context.Context, kind string, knob func(*world)) (s state, messages int, err error) {
	w, err := newWorld(ctx)
	defer func() {
		if cerr := w.close(); err == nil {
			err = cerr
		}
	}()
	if err != nil {
		return s, 0, err
	}
	before := []string{}
	switch kind {
	case trove.OpCreate:
	case trove.OpStart:
		before = append(before, trove.OpCreate, trove.OpStop)
	case trove.OpUpgradeRollback, trove.OpUpgradeConfirm:
		before = append(before, trove.OpCreate, trove.OpUpgrade)
	default:
		before = append(before, trove.OpCreate)
	}
	for _, k := range before {
		if op, err := w.carryOut(ctx, k); err != nil || op.State != trove.OperationDone {
			return s, 0, fmt.Errorf("%s before %s: %s (%s) %w", k, kind, op.State, op.Error, err)
		}
	}
	var n atomic.Int64
	if _, err := w.broker.Conn("counter").Subscribe(ctx, ">", "", func(context.Context, bus.Message) { n.Add(1) }); err != nil {
		return s, 0, err
	}
	if knob != nil {
		knob(w)
	}
	op, err := w.carryOut(ctx, kind)
	if err != nil {
		return s, 0, err
	}
	messages = int(n.Load())
	// A report that is late or was lost still says how things are.
	want := map[string]trove.ServiceStatus{trove.OpStop: trove.ServiceShutdown, trove.OpStopEngine: trove.ServiceShutdown, trove.OpDelete: ""}
	service, other := want[kind]
	if !other {
		service = trove.ServiceHealthy
	}
	err = w.until(ctx, "the last reports", func() bool {
		s, err = w.look(ctx, op)
		return err != nil || s.Service == service && s.Database == (service == trove.ServiceHealthy)
	})
	return s, messages, err
}

// late is when nobody waits for an answer any more.
const late = 6 * time.Second

var mischiefs = map[string]func(*world, int){
	"lost":           func(w *world, n int) { w.broker.DropMessage(">", n) },
	"twice":          func(w *world, n int) { w.broker.DoubleMessage(">", n) },
	"late":           func(w *world, n int) { w.broker.DelayMessage(">", n, late) },
	"answer is lost": func(w *world, n int) { w.broker.DropReply(">", n) },
}

// atOnce is how many worlds there are at a time: they mostly wait.
const atOnce = 24

// operations are those that are disturbed.
var operations = []string{
	trove.OpCreate, trove.OpRestart, trove.OpStop, trove.OpStart, trove.OpResizeFlavor, trove.OpResizeVolume, trove.OpDelete,
	trove.OpStopEngine, trove.OpReboot, trove.OpRebuild, trove.OpUpgrade, trove.OpUpgradeRollback, trove.OpUpgradeConfirm,
}

// TestEveryMessageDisturbedOnce does each mischief to each message of each operation.
func TestEveryMessageDisturbedOnce(t *testing.T) {
	began := time.Now()
	type end struct {
		state
		messages int
	}
	ends := map[string]end{}
	for _, kind := range operations {
		want, messages, err := run(t.Context(), kind, nil)
		if err != nil || want.Operation != trove.OperationDone {
			t.Fatalf("undisturbed %s: %+v, %v", kind, want, err)
		}
		t.Logf("%s: %d messages", kind, messages)
		if messages < 3 {
			t.Errorf("%s took %d messages only", kind, messages)
		}
		ends[kind] = end{want, messages}
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	runs := 0
	for _, kind := range operations {
		for what, knob := range mischiefs {
			for n := 1; n <= ends[kind].messages; n++ {
				runs++
				wg.Go(func() {
					slots <- struct{}{}
					defer func() { <-slots }()
					got, _, err := run(t.Context(), kind, func(w *world) { knob(w, n) })
					if err != nil {
						t.Errorf("%s, message %d of %d: %s: %v\n%+v", kind, n, ends[kind].messages, what, err, got)
					} else if diff := cmp.Diff(ends[kind].state, got); diff != "" {
						t.Errorf("%s, message %d of %d: %s: the end differs (-undisturbed +disturbed):\n%s", kind, n, ends[kind].messages, what, diff)
					}
				})
			}
		}
	}
	wg.Wait()
	t.Logf("%d runs in %s", runs, time.Since(began).Round(time.Second))
}
