package conductor_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/membus"
	"github.com/trove-dbaas/trove/conductor"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

const (
	first  = "11111111-1111-4111-8111-111111111111"
	second = "22222222-2222-4222-8222-222222222222"
	absent = "99999999-9999-4999-8999-999999999999"
)

// countingStore counts transactions, and fails them when told to.
type countingStore struct {
	*sqlstore.Store

	mu   sync.Mutex
	n    int
	fail int
}

func (s *countingStore) InTx(ctx context.Context, fn func(context.Context, store.Tx) error) error {
	s.mu.Lock()
	s.n++
	fail := s.fail > 0
	if fail {
		s.fail--
	}
	s.mu.Unlock()
	if fail {
		return errors.New("the disk is full")
	}
	return s.Store.InTx(ctx, fn)
}

func (s *countingStore) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

// world is a conductor over a store with instances, in a synctest bubble.
type world struct {
	t       testing.TB
	store   *countingStore
	conn    bus.Conn
	metrics *prometheus.Registry
	wakes   chan struct{}
	stop    func()
}

func open(t testing.TB, dir string, instances ...string) *countingStore {
	t.Helper()
	s, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(dir, trove.NewID()+".db"), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	err = s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		for n, id := range instances {
			if err := tx.InsertInstance(ctx, trove.Instance{ID: id, ProjectID: "p", Name: id, Task: trove.TaskNone, ServerStatus: trove.ServerActive, ServerID: uint32(n + 1)}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return &countingStore{Store: s}
}

func start(t testing.TB, dir string, instances ...string) *world {
	t.Helper()
	w := &world{t: t, store: open(t, dir, instances...), metrics: prometheus.NewRegistry(), wakes: make(chan struct{}, 1000)}
	broker := membus.New()
	w.conn = broker.Conn("guests")
	c, err := conductor.New(conductor.Config{
		Store: w.store, Conn: broker.Conn("conductor"), Clock: clock.System{}, Log: slog.New(slog.DiscardHandler), Metrics: w.metrics,
		Wake: func() { w.wakes <- struct{}{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	for !broker.Listening(guestapi.ReportSubject(first, guestapi.ReportHello)) {
		if err := clock.Sleep(ctx, time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	var once sync.Once
	w.stop = func() {
		once.Do(func() {
			cancel()
			if err := errors.Join(<-done, broker.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	return w
}

func (w *world) close() {
	w.stop()
	if err := w.store.Close(); err != nil {
		w.t.Error(err)
	}
}

func (w *world) say(instance string, kind guestapi.ReportKind, v any) {
	w.t.Helper()
	data, ok := v.([]byte)
	if !ok {
		var err error
		if data, err = json.Marshal(v); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := w.conn.Publish(w.t.Context(), guestapi.ReportSubject(instance, kind), data); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) guest(id string) trove.GuestState {
	w.t.Helper()
	i, err := w.store.Instance(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return i.Guest
}

// metric sums the values of a counter whose labels contain the value.
func (w *world) metric(name, label string) float64 {
	w.t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if label == "" {
				sum += m.GetCounter().GetValue()
			}
			for _, l := range m.GetLabel() {
				if l.GetValue() == label {
					sum += m.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}

func beat(s trove.ServiceStatus) guestapi.Heartbeat {
	return guestapi.Heartbeat{BootID: "boot-1", Service: s, AgentVersion: "1", EngineStart: 5, VolumeUsed: 10, VolumeTotal: 100}
}

// bubble runs a test in a synctest bubble, whose time passes when nothing else happens.
func bubble(t *testing.T, test func(t *testing.T, w *world), instances ...string) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := start(t, dir, instances...)
		defer w.close()
		test(t, w)
	})
}

func TestChangeIsWrittenAtOnceAndWakes(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		began := time.Now()
		w.say(first, guestapi.ReportHeartbeat, beat(trove.ServiceHealthy))
		<-w.wakes
		if d := time.Since(began); d >= 100*time.Millisecond {
			t.Errorf("it took %s", d)
		}
		want := trove.GuestState{Service: trove.ServiceHealthy, SeenAt: began.UTC().Truncate(time.Microsecond), BootID: "boot-1", AgentVersion: "1", VolumeUsed: 10, VolumeTotal: 100}
		if diff := cmp.Diff(want, w.guest(first)); diff != "" {
			t.Errorf("guest state (-want +got):\n%s", diff)
		}
		w.say(first, guestapi.ReportHeartbeat, beat(trove.ServiceCrashed))
		<-w.wakes
		if got := w.guest(first).Service; got != trove.ServiceCrashed {
			t.Errorf("service %q", got)
		}
	}, first)
}

func TestUnchangedHeartbeatsAreBatched(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		for _, id := range []string{first, second} {
			w.say(id, guestapi.ReportHeartbeat, beat(trove.ServiceHealthy))
			synctest.Wait()
		}
		before := w.store.count()
		time.Sleep(10 * time.Second) //nolint:forbidigo // of the bubble's time
		said := time.Now().UTC().Truncate(time.Microsecond)
		for range 20 {
			w.say(first, guestapi.ReportHeartbeat, beat(trove.ServiceHealthy))
			w.say(second, guestapi.ReportHeartbeat, beat(trove.ServiceHealthy))
		}
		synctest.Wait()
		if got := w.store.count(); got != before {
			t.Errorf("%d transactions for what is not new, at once", got-before)
		}
		time.Sleep(2 * time.Second) //nolint:forbidigo // of the bubble's time
		if got := w.store.count(); got != before+1 {
			t.Errorf("%d transactions for a batch", got-before)
		}
		for _, id := range []string{first, second} {
			if got := w.guest(id).SeenAt; !got.Equal(said) {
				t.Errorf("%s was seen at %s, not %s", id, got, said)
			}
		}
	}, first, second)
}

func TestHelloKeepsWhatHeartbeatsSaid(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		hello := guestapi.Hello{BootID: "boot-1", AgentVersion: "1", Protocol: 1, Engine: "mariadb"}
		w.say(first, guestapi.ReportHello, hello)
		<-w.wakes
		if g := w.guest(first); g.SeenAt.IsZero() || g.BootID != "boot-1" {
			t.Errorf("after the first hello: %+v", g)
		}
		w.say(first, guestapi.ReportHeartbeat, beat(trove.ServiceHealthy))
		<-w.wakes
		hello.BootID = "boot-2"
		w.say(first, guestapi.ReportHello, hello)
		<-w.wakes
		if g := w.guest(first); g.Service != trove.ServiceHealthy || g.BootID != "boot-2" || g.VolumeTotal != 100 {
			t.Errorf("after a hello with another boot: %+v", g)
		}
	}, first)
}

// enqueue opens an operation in the given step.
func (w *world) enqueue(instance, step string) string {
	w.t.Helper()
	id := trove.NewID()
	now := time.Now()
	err := w.store.Store.InTx(w.t.Context(), func(ctx context.Context, tx store.Tx) error {
		return tx.EnqueueOperation(ctx, store.OperationRow{
			Operation: trove.Operation{ID: id, Kind: "test", Target: instance, State: trove.OperationOpen, Step: step, Created: now, Updated: now, Deadline: now.Add(time.Hour)},
			WakeAt:    now.Add(time.Hour), Input: []byte("null"),
		})
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

func (w *world) due() int {
	w.t.Helper()
	rows, err := w.store.DueOperations(w.t.Context(), time.Now(), 10)
	if err != nil {
		w.t.Fatal(err)
	}
	return len(rows)
}

func TestEndWakesItsOperation(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		id := w.enqueue(first, "prepare") + "/prepare"
		w.say(first, guestapi.ReportProgress, guestapi.OperationStatus{ID: id, State: guestapi.StateRunning, Sentence: "starting the server", Percent: 40})
		<-w.wakes
		r, err := w.store.Report(t.Context(), id)
		if err != nil || r.Done || r.Percent != 40 || r.Sentence != "starting the server" || r.InstanceID != first {
			t.Errorf("progress: %+v, %v", r, err)
		}
		if w.due() != 1 {
			t.Error("the operation is not due")
		}
		w.say(first, guestapi.ReportEnd, guestapi.OperationStatus{ID: id, State: guestapi.StateFailed, Error: &guestapi.Failure{Kind: trove.KindConflict, Message: "no room"}})
		<-w.wakes
		if r, err = w.store.Report(t.Context(), id); err != nil || !r.Done || r.Error != "no room" || r.ErrorKind != trove.KindConflict {
			t.Errorf("end: %+v, %v", r, err)
		}
	}, first)
}

// TestOthersOperation: a guest may only speak of the command that its own instance's operation waits for.
func TestOthersOperation(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		op := w.enqueue(first, "prepare")
		for from, id := range map[string]string{second: op + "/prepare", first: op + "/another"} {
			w.say(from, guestapi.ReportEnd, guestapi.OperationStatus{ID: id, State: guestapi.StateDone})
			<-w.wakes
			if r, err := w.store.Report(t.Context(), id); !trove.IsNotFound(err) {
				t.Errorf("%s said of %s: %+v, %v", from, id, r, err)
			}
		}
		if got := w.metric("trove_conductor_dropped_total", "unknown"); got != 2 {
			t.Errorf("%v reports were counted as dropped", got)
		}
	}, first, second)
}

func TestNonsenseIsDroppedAndCounted(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		before := w.store.count()
		w.say(first, guestapi.ReportHeartbeat, []byte("{"))
		w.say(first, guestapi.ReportHeartbeat, beat("on fire"))
		w.say(first, "gossip", []byte("{}"))
		w.say(first, guestapi.ReportEnd, guestapi.OperationStatus{ID: "x", State: guestapi.StateRunning})
		w.say(first, guestapi.ReportProgress, guestapi.OperationStatus{ID: "x", State: guestapi.StateDone})
		if err := w.conn.Publish(t.Context(), "trove.v1.guest.not-an-id.up.hb", []byte("{}")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second) //nolint:forbidigo // of the bubble's time
		if got := w.store.count() - before; got != 0 {
			t.Errorf("%d transactions", got)
		}
		got := []float64{w.metric("trove_conductor_dropped_total", "malformed"), w.metric("trove_conductor_dropped_total", "subject")}
		if diff := cmp.Diff([]float64{5, 1}, got); diff != "" {
			t.Errorf("dropped, malformed and by subject (-want +got):\n%s", diff)
		}
	}, first)
}

// TestFloodDelaysNobody: a guest that floods is not read beyond its budget, which fills again.
func TestFloodDelaysNobody(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		for n := range 1000 {
			w.say(first, guestapi.ReportHeartbeat, guestapi.Heartbeat{BootID: "b", Seq: int64(n), Service: trove.ServiceHealthy, AgentVersion: "1", VolumeUsed: int64(n)})
		}
		w.say(second, guestapi.ReportHeartbeat, beat(trove.ServiceHealthy))
		time.Sleep(2 * time.Second) //nolint:forbidigo // of the bubble's time
		if got := w.metric("trove_conductor_dropped_total", "budget"); got != 900 {
			t.Errorf("%v of 1000 dropped", got)
		}
		if got := w.guest(second).Service; got != trove.ServiceHealthy {
			t.Errorf("the neighbour is %q", got)
		}
		time.Sleep(2 * time.Second) //nolint:forbidigo // of the bubble's time
		for range 50 {
			w.say(first, guestapi.ReportHeartbeat, beat(trove.ServiceHealthy))
		}
		synctest.Wait()
		if got := w.metric("trove_conductor_dropped_total", "budget"); got != 900+30 {
			t.Errorf("%v dropped after 4 s at 5 a second", got)
		}
	}, first, second)
}

func TestUnknownInstance(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.say(absent, guestapi.ReportHello, guestapi.Hello{BootID: "b", AgentVersion: "1", Protocol: 1, Engine: "e"})
		w.say(absent, guestapi.ReportHeartbeat, beat(trove.ServiceHealthy))
		w.say(absent, guestapi.ReportEnd, guestapi.OperationStatus{ID: "x", State: guestapi.StateDone})
		w.say(first, guestapi.ReportHeartbeat, beat(trove.ServiceHealthy))
		time.Sleep(3 * time.Second) //nolint:forbidigo // of the bubble's time
		if got := w.guest(first).Service; got != trove.ServiceHealthy {
			t.Errorf("the known neighbour is %q", got)
		}
	}, first)
}

func TestStoreThatFailsForAWhile(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.store.mu.Lock()
		w.store.fail = 2
		w.store.mu.Unlock()
		w.say(first, guestapi.ReportHeartbeat, beat(trove.ServiceHealthy))
		<-w.wakes
		if got := w.guest(first).Service; got != trove.ServiceHealthy {
			t.Errorf("service %q", got)
		}
	}, first)
}

// TestStopWritesABatchThatCouldNotBeWritten: a conductor that is stopped while it tries again does not drop what it has.
func TestStopWritesABatchThatCouldNotBeWritten(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.store.mu.Lock()
		w.store.fail = 1
		w.store.mu.Unlock()
		w.say(first, guestapi.ReportHeartbeat, beat(trove.ServiceHealthy))
		synctest.Wait() // it waits for its second attempt
		w.stop()
		if got := w.guest(first).Service; got != trove.ServiceHealthy {
			t.Errorf("service %q", got)
		}
	}, first)
}

// TestStopWritesWhatCameIn: what waits for its batch when the conductor stops is written.
func TestStopWritesWhatCameIn(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.say(first, guestapi.ReportHeartbeat, beat(trove.ServiceHealthy))
		<-w.wakes
		time.Sleep(10 * time.Second) //nolint:forbidigo // of the bubble's time
		said := time.Now().UTC().Truncate(time.Microsecond)
		w.say(first, guestapi.ReportHeartbeat, beat(trove.ServiceHealthy))
		synctest.Wait()
		w.stop()
		if got := w.guest(first).SeenAt; !got.Equal(said) {
			t.Errorf("seen at %s, not %s", got, said)
		}
	}, first)
}

// TestWakeIsPublished: without a function to call, the other controllers are told over the bus.
func TestWakeIsPublished(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		broker, s := membus.New(), open(t, dir, first)
		woken := make(chan struct{}, 10)
		if _, err := broker.Conn("taskmanager").Subscribe(t.Context(), guestapi.WakeSubject, "", func(context.Context, bus.Message) { woken <- struct{}{} }); err != nil {
			t.Fatal(err)
		}
		c, err := conductor.New(conductor.Config{Store: s, Conn: broker.Conn("conductor"), Clock: clock.System{}, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		synctest.Wait()
		data, _ := json.Marshal(beat(trove.ServiceHealthy))
		if err := broker.Conn("guest").Publish(t.Context(), guestapi.ReportSubject(first, guestapi.ReportHeartbeat), data); err != nil {
			t.Fatal(err)
		}
		<-woken
		cancel()
		if err := errors.Join(<-done, broker.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	})
}

// FuzzReports gives a conductor whatever a guest can send on its own subjects: it neither ends nor writes what is not valid.
func FuzzReports(f *testing.F) {
	kinds := []guestapi.ReportKind{guestapi.ReportHello, guestapi.ReportHeartbeat, guestapi.ReportProgress, guestapi.ReportEnd, "log"}
	f.Add(uint8(0), []byte(`{"boot_id":"b","agent_version":"1","protocol":1,"engine":"mariadb","commands":["prepare"],"prepared":true}`))
	f.Add(uint8(1), []byte(`{"boot_id":"b","seq":1,"service":"healthy","agent_version":"1","volume_used":1,"volume_total":2,"event":"crashed"}`))
	f.Add(uint8(1), []byte(`{"boot_id":"b","service":"on fire","agent_version":"1","volume_used":-1}`))
	f.Add(uint8(2), []byte(`{"id":"x/prepare","state":"running","sentence":"working","percent":50}`))
	f.Add(uint8(3), []byte(`{"id":"x/prepare","state":"failed","error":{"kind":5,"message":"no"}}`))
	f.Add(uint8(3), []byte(`{"id":"x/prepare","state":"done","result":{"a":1}}`))
	f.Add(uint8(4), []byte(`[]`))
	f.Add(uint8(1), []byte(strings.Repeat("[", 1000)))
	w := &world{t: f, store: open(f, f.TempDir(), first)}
	defer func() { _ = w.store.Close() }()
	op := w.enqueue(first, "prepare")
	c, err := conductor.New(conductor.Config{
		Store: w.store, Conn: membus.New().Conn("conductor"), Clock: clock.System{}, Log: slog.New(slog.DiscardHandler), Wake: func() {},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		data = []byte(strings.ReplaceAll(string(data), "x/prepare", op+"/prepare"))
		conductor.Feed(t.Context(), c, guestapi.ReportSubject(first, kinds[int(kind)%len(kinds)]), data)
		i, err := w.store.Instance(t.Context(), first)
		if err != nil {
			t.Fatal(err)
		}
		g := i.Guest
		if g.Service != "" && !g.Service.Valid() || len(g.BootID) > 64 || g.VolumeUsed < 0 || g.VolumeTotal < 0 {
			t.Errorf("%q was written as %+v", data, g)
		}
		if r, err := w.store.Report(t.Context(), op+"/prepare"); err == nil && (r.Percent < 0 || r.Percent > 100 || len(r.Error) > 4096 || len(r.Sentence) > 4096) {
			t.Errorf("%q was written as %+v", data, r)
		}
	})
}
