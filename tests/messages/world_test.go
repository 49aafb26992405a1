// Package messages_test runs the real taskmanager, conductor and guest agent over a bus in memory that loses, doubles and delays messages: each operation
// ends the same whichever message it befalls. The cloud and the database are fakes; the database is a process all the same.
package messages_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/membus"
	"github.com/trove-dbaas/trove/cloud/fake"
	"github.com/trove-dbaas/trove/conductor"
	"github.com/trove-dbaas/trove/engine"
	enginefake "github.com/trove-dbaas/trove/engine/fake"
	"github.com/trove-dbaas/trove/guestagent"
	"github.com/trove-dbaas/trove/guestagent/process"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/taskmanager"
)

const (
	instanceID = "11111111-1111-4111-8111-111111111111"
	versionID  = "22222222-2222-4222-8222-222222222222"
	storeID    = "33333333-3333-4333-8333-333333333333"
	project    = "p1"
)

var (
	small = trove.Flavor{ID: "1", Name: "db.tiny", RAM: 512, VCPUs: 1}
	large = trove.Flavor{ID: "3", Name: "db.medium", RAM: 2048, VCPUs: 2}
)

// world is one deployment with one instance. It is not for a test's own goroutine alone, so that its methods return errors.
type world struct {
	dir    string
	store  *sqlstore.Store
	broker *membus.Broker
	cloud  *fake.Cloud
	boots  atomic.Int64
	ends   []func() error // in the order in which they were begun

	mu    sync.Mutex
	guest *guest
}

// guest is the machine between boot and halt.
type guest struct {
	layout engine.Layout
	cancel context.CancelFunc
	done   chan struct{}
}

func newWorld(ctx context.Context) (w *world, err error) {
	// A socket's path must be short.
	dir, err := os.MkdirTemp("", "messages")
	if err != nil {
		return nil, err
	}
	w = &world{dir: dir, broker: membus.New()}
	w.ends = append(w.ends, func() error { return os.RemoveAll(dir) }, w.broker.Close)
	if w.store, err = sqlstore.Open(ctx, sqlstore.Config{Path: filepath.Join(dir, "store.db"), NoSync: true}); err != nil {
		return w, err
	}
	w.ends = append(w.ends, w.store.Close)
	err = w.store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(
			tx.PutDatastore(ctx, trove.Datastore{ID: storeID, Name: "mariadb", DefaultVersionID: versionID}),
			tx.PutDatastoreVersion(ctx, trove.DatastoreVersion{
				ID: versionID, DatastoreID: storeID, Name: "10.11", Version: "10.11", Manager: enginefake.Manager, ImageID: "image-1", Active: true,
				Capabilities: enginefake.New().Info().Capabilities,
			}))
	})
	if err != nil {
		return w, err
	}
	w.cloud = fake.New(fake.Options{Flavors: []trove.Flavor{small, large}, Images: []string{"image-1"}, Boot: w.boot, Halt: w.halt})
	w.ends = append(w.ends, func() error { w.halt(instanceID); return nil })
	return w, w.controllers(ctx)
}

// controllers starts conductor and taskmanager as in processes of their own: what one tells the other goes over the bus.
func (w *world) controllers(ctx context.Context) error {
	log := slog.New(slog.DiscardHandler)
	c, err := conductor.New(conductor.Config{Store: w.store, Conn: w.broker.Conn("conductor"), Clock: clock.System{}, Log: log})
	if err != nil {
		return err
	}
	m, err := taskmanager.New(taskmanager.Config{
		Store: w.store, Cloud: w.cloud, Guests: guestapi.NewClient(w.broker.Conn("taskmanager")), Enrolment: enrolment{}, Sealer: sealer{},
		Clock: clock.System{}, Log: log, Reconcile: time.Second,
	})
	if err != nil {
		return err
	}
	_, err = w.broker.Conn("wakes").Subscribe(ctx, guestapi.WakeSubject, "", func(context.Context, bus.Message) { m.Wake() })
	if err != nil {
		return err
	}
	for _, run := range []func(context.Context) error{c.Run, m.Run} {
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		done := make(chan error, 1)
		go func() { done <- run(ctx) }()
		w.ends = append(w.ends, func() error {
			cancel()
			return <-done
		})
	}
	return w.until(ctx, "the conductor to listen", func() bool { return w.broker.Listening(guestapi.ReportSubject(instanceID, guestapi.ReportHello)) })
}

func (w *world) close() error {
	var errs []error
	for _, end := range slices.Backward(w.ends) {
		errs = append(errs, end())
	}
	return errors.Join(errs...)
}

// times are those of an agent, but for what nobody shall wait for.
func times() guestagent.Timings {
	return guestagent.Timings{Progress: -1, StartPoll: 5 * time.Millisecond, ResendMin: time.Second, PingOther: 50 * time.Millisecond}
}

// boot starts the agent of the machine, which has joined the bus before.
func (w *world) boot(instance string, data []byte) {
	w.halt(instance)
	ctx, cancel := context.WithCancel(context.Background())
	g := &guest{cancel: cancel, done: make(chan struct{}), layout: engine.Layout{
		Data: filepath.Join(w.dir, "data"), Runtime: filepath.Join(w.dir, "run"), State: filepath.Join(w.dir, "data", "trove"), UID: os.Getuid(), GID: os.Getgid(),
	}}
	w.mu.Lock()
	w.guest = g
	w.mu.Unlock()
	go func() {
		defer close(g.done)
		if err := w.agent(ctx, g, data); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "the agent ended:", err)
		}
	}()
}

func (w *world) agent(ctx context.Context, g *guest, data []byte) error {
	for _, d := range []string{g.layout.State, g.layout.Runtime} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	if err := w.enrol(ctx, g, data); err != nil {
		return err
	}
	a, err := guestagent.New(guestagent.Config{
		Instance: instanceID, BootID: fmt.Sprintf("boot-%d", w.boots.Add(1)), Version: "1", Engine: enginefake.New(), Layout: g.layout,
		Connect: func(_ context.Context, connected func()) (bus.Conn, error) {
			connected()
			return w.broker.Conn("guest"), nil
		},
		Timings: times(), Clock: clock.System{}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// enrol does what the enrolment endpoint does with the store, once in the life of the volume.
func (w *world) enrol(ctx context.Context, g *guest, data []byte) error {
	mark := filepath.Join(g.layout.State, "enrolled")
	if _, err := os.Stat(mark); err == nil {
		return nil
	}
	var boot bus.BootData
	if err := json.Unmarshal(data, &boot); err != nil {
		return err
	}
	err := w.store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		_, err := tx.UseEnrolmentToken(ctx, bus.HashToken(trove.Secret(boot.Token)), "key", time.Now())
		return err
	})
	return errors.Join(err, os.WriteFile(mark, nil, 0o600))
}

// halt ends the machine: the agent, the database, and what was only in memory.
func (w *world) halt(string) {
	w.mu.Lock()
	g := w.guest
	w.guest = nil
	w.mu.Unlock()
	if g == nil {
		return
	}
	g.cancel()
	<-g.done
	if ref, err := process.ReadFile(filepath.Join(g.layout.Runtime, guestagent.PIDFile)); err == nil && ref.Alive() {
		_ = unix.Kill(-ref.PID, unix.SIGKILL)
		for end := time.Now().Add(5 * time.Second); ref.Alive() && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
	}
	_ = os.RemoveAll(g.layout.Runtime)
}

// limit is how long anything may take: a lost message costs some seconds, and many worlds share the machine.
const limit = 2 * time.Minute

func (w *world) until(ctx context.Context, what string, is func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !is() {
		if clock.Sleep(ctx, 5*time.Millisecond) != nil {
			return fmt.Errorf("waited %s for %s", limit, what)
		}
	}
	return nil
}

// carryOut does what the API does for a request, and waits for the end of the operation.
func (w *world) carryOut(ctx context.Context, kind string) (trove.Operation, error) {
	var id string
	err := w.store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		input, err := accept(ctx, tx, kind)
		if err == nil {
			id, err = workflow.Enqueue(ctx, tx, time.Now(), workflow.Request{Kind: kind, Target: instanceID, ProjectID: project, RequestID: "req-1", Input: input})
		}
		return err
	})
	if err == nil {
		err = w.broker.Conn("api").Publish(ctx, guestapi.WakeSubject, nil)
	}
	if err != nil {
		return trove.Operation{}, fmt.Errorf("request %s: %w", kind, err)
	}
	var op trove.Operation
	err = w.until(ctx, kind+" to end", func() bool {
		op, err = w.store.Operation(ctx, id)
		return err != nil || op.State != trove.OperationOpen
	})
	return op, err
}

func accept(ctx context.Context, tx store.Tx, kind string) (any, error) {
	change := func(task trove.Task, take map[string]int) error {
		return errors.Join(tx.TakeQuota(ctx, project, take), tx.UpdateInstance(ctx, instanceID, time.Now(), func(i *trove.Instance) error {
			i.Task = task
			for resource, n := range take {
				i.Held[resource] += n
			}
			return nil
		}))
	}
	switch kind {
	case trove.OpCreate:
		held := map[string]int{trove.QuotaInstances: 1, trove.QuotaRAM: small.RAM, trove.QuotaVolumes: 1}
		secrets, err := json.Marshal(trove.CreateSecrets{Users: []trove.CreateUser{{Name: "u1", Host: "%", Password: "correct horse", Databases: []string{"d1"}}}})
		sealed, _ := sealer{}.Seal(ctx, trove.SecretPurpose(instanceID), trove.Secret(secrets))
		return trove.CreateInput{Flavor: small, Databases: []trove.Database{{Name: "d1"}}, Sealed: sealed}, errors.Join(err,
			tx.TakeQuota(ctx, project, held),
			tx.InsertInstance(ctx, trove.Instance{
				ID: instanceID, ProjectID: project, Name: "db", Created: time.Now(), Updated: time.Now(), Task: trove.TaskBuilding,
				DatastoreVersionID: versionID, FlavorID: small.ID, VolumeSize: 1, ServerID: 7, Held: held,
			}))
	case trove.OpDelete:
		return nil, change(trove.TaskDeleting, nil)
	case trove.OpRebuild:
		return nil, change(trove.TaskBuilding, nil)
	case trove.OpStopEngine:
		return nil, change(trove.TaskUpdating, nil)
	case trove.OpRestart, trove.OpStop, trove.OpStart, trove.OpReboot:
		return nil, change(trove.TaskRebooting, nil)
	case trove.OpResizeVolume:
		return trove.ResizeVolumeInput{Old: 1, New: 3}, change(trove.TaskResizing, map[string]int{trove.QuotaVolumes: 2})
	case trove.OpResizeFlavor:
		return trove.ResizeFlavorInput{Old: small, New: large}, change(trove.TaskResizing, map[string]int{trove.QuotaRAM: large.RAM - small.RAM})
	}
	return nil, fmt.Errorf("no operation %q", kind)
}

type enrolment struct{}

func (enrolment) EnrolURLs() []string { return []string{"https://192.0.2.1:4223"} }
func (enrolment) CABundle() string    { return "a certificate" }

// sealer seals nothing.
type sealer struct{}

func (sealer) Seal(_ context.Context, purpose string, plain trove.Secret) (string, error) {
	return purpose + "|" + plain.Reveal(), nil
}

func (sealer) Open(_ context.Context, purpose, sealed string) (trove.Secret, error) {
	text, ok := strings.CutPrefix(sealed, purpose+"|")
	if !ok {
		return "", trove.Permanent(errors.New("sealed for something else"))
	}
	return trove.Secret(text), nil
}
