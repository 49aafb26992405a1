package taskmanager_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/membus"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/fake"
	"github.com/trove-dbaas/trove/conductor"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/agentrelease"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/taskmanager"
	"github.com/trove-dbaas/trove/taskmanager/guesttest"
)

const (
	instanceID = "11111111-1111-4111-8111-111111111111"
	versionID  = "22222222-2222-4222-8222-222222222222"
	project    = "p1"
	password   = "correct horse"
)

var (
	flavorSmall = trove.Flavor{ID: "1", Name: "db.tiny", RAM: 512, VCPUs: 1}
	flavorLarge = trove.Flavor{ID: "3", Name: "db.medium", RAM: 2048, VCPUs: 2}
	openToAll   = trove.Access{IsPublic: true}
	openToOne   = trove.Access{AllowedCIDRs: []string{"10.9.0.0/16"}}
)

// world is a whole control plane on fakes: the store is a real one, the cloud, the bus and the guests are in memory.
type world struct {
	t      *testing.T
	flavor trove.Flavor // of the create
	store  *sqlstore.Store
	broker *membus.Broker
	fleet  *guesttest.Fleet
	cloud  *fake.Cloud

	mu       sync.Mutex
	calls    []string                             // the outside calls of taskmanagers so far
	disturb  func(n int, name string) disturbance // asked at each outside call
	managers []*manager
}

// disturbance is what happens to one outside call.
type disturbance int

const (
	none disturbance = iota
	killBefore
	killAfter
	loseReply
	failTemporarily
	failForGood
	cancelAfter
)

var disturbanceNames = [...]string{"none", "kill before", "kill after", "lose the reply", "fail once", "fail for good", "cancel after"}

func (d disturbance) String() string { return disturbanceNames[d] }

// template makes an empty, migrated store once; worlds copy it.
var template = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "taskmanager-test-*")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "store.db")
	ctx := context.Background()
	s, err := sqlstore.Open(ctx, sqlstore.Config{Path: path, NoSync: true})
	if err != nil {
		return nil, err
	}
	err = s.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(
			tx.PutDatastore(ctx, trove.Datastore{ID: "33333333-3333-4333-8333-333333333333", Name: "mariadb", DefaultVersionID: versionID}),
			tx.PutDatastoreVersion(ctx, trove.DatastoreVersion{
				ID: versionID, DatastoreID: "33333333-3333-4333-8333-333333333333", Name: "10.11", Version: "10.11", Manager: "fake",
				ImageID: "image-1", Active: true, Capabilities: trove.Capabilities{Port: 3306, Volume: true},
			}))
	})
	if err := errors.Join(err, s.Close()); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// newWorld makes a world in the present synctest bubble; close it there.
func newWorld(t *testing.T, dir string) *world {
	t.Helper()
	data, err := template()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, trove.NewID()+".db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: path, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, flavor: flavorSmall, store: s, broker: membus.New()}
	w.fleet = guesttest.New(guesttest.Options{Connect: w.broker.Conn, Enrol: w.enrol})
	w.cloud = fake.New(fake.Options{
		Flavors: []trove.Flavor{flavorSmall, flavorLarge}, Images: []string{"image-1"}, Domain: "db.example", Looks: 1, Hosts: []string{"h1", "h2"},
		Boot: w.fleet.Boot, Halt: w.fleet.Halt,
	})
	return w
}

// enrol does what the enrolment endpoint does with the store.
func (w *world) enrol(ctx context.Context, instance, token, key string) error {
	return w.store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		owner, err := tx.UseEnrolmentToken(ctx, bus.HashToken(trove.Secret(token)), key, time.Now())
		if err == nil && owner != instance {
			return errors.New("the token is another instance's")
		}
		return err
	})
}

// runConductor starts a conductor that wakes the taskmanagers; stop waits for it.
func (w *world) runConductor() (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	c, err := conductor.New(conductor.Config{
		Store: w.store, Conn: w.broker.Conn("conductor"), Clock: clock.System{}, Log: slog.New(slog.DiscardHandler), Wake: w.wake,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("conductor: %v", err)
		}
	}
}

func (w *world) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.managers {
		m.Wake()
	}
}

func (w *world) close() {
	w.fleet.Close()
	if err := errors.Join(w.broker.Close(), w.store.Close()); err != nil {
		w.t.Error(err)
	}
}

// manager is one process with a taskmanager, which can be killed at each of its outside calls.
type manager struct {
	*taskmanager.Manager
	world  *world
	cancel context.CancelFunc
	done   chan struct{}

	mu   sync.Mutex
	dead bool
}

// start starts a taskmanager as a process of its own.
func (w *world) start() *manager {
	w.t.Helper()
	m := &manager{world: w, done: make(chan struct{})}
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() && os.Getenv("TROVE_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(w.t.Output(), nil))
	}
	var err error
	m.Manager, err = taskmanager.New(taskmanager.Config{
		Store: &mortalStore{w.store, m}, Cloud: &mortalCloud{w.cloud.Reopen(), m},
		Guests:    &mortalGuests{guestapi.NewClient(w.broker.Conn("taskmanager")), m},
		Enrolment: enrolment{}, Sealer: sealer{}, Agents: &mortalAgents{m}, Clock: clock.System{}, Log: log,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	m.cancel = cancel
	w.mu.Lock()
	w.managers = append(w.managers, m)
	w.mu.Unlock()
	go func() {
		defer close(m.done)
		_ = m.Engine().Run(ctx)
	}()
	return m
}

// stop ends a taskmanager in good order, if it is not dead.
func (m *manager) stop() {
	m.cancel()
	<-m.done
}

func (m *manager) isDead() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dead
}

// kill ends the process in the middle of what it does: nothing that it begins from now on has an effect.
func (m *manager) kill() {
	m.mu.Lock()
	m.dead = true
	m.mu.Unlock()
	m.cancel()
	runtime.Goexit()
}

var errDisturbed = errors.New("the call was disturbed")

// outside does one outside call of a taskmanager.
func outside[T any](ctx context.Context, m *manager, name string, do func() (T, error)) (T, error) {
	var zero T
	if m.isDead() {
		runtime.Goexit()
	}
	w := m.world
	w.mu.Lock()
	n := len(w.calls)
	w.calls = append(w.calls, name)
	d := none
	if w.disturb != nil {
		d = w.disturb(n, name)
	}
	w.mu.Unlock()
	switch d {
	case killBefore:
		m.kill()
	case failTemporarily:
		return zero, fmt.Errorf("%s: %w", name, errDisturbed)
	case failForGood:
		return zero, trove.Permanent(trove.Errorf(trove.KindInternal, "%s failed for good.", name))
	}
	v, err := do()
	if m.isDead() { // another goroutine of this process was killed meanwhile
		runtime.Goexit()
	}
	switch d {
	case killAfter:
		m.kill()
	case loseReply:
		return zero, fmt.Errorf("%s: %w", name, errDisturbed)
	case cancelAfter:
		w.cancelOpen(ctx)
	}
	return v, err
}

// cancelOpen asks the open operation to stop, as a user would.
func (w *world) cancelOpen(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	open, err := w.store.OpenOperation(ctx, instanceID)
	if err == nil {
		err = w.store.InTx(ctx, func(ctx context.Context, tx store.Tx) error { return tx.CancelOperation(ctx, open.ID, time.Now()) })
	}
	if err != nil && !trove.IsNotFound(err) {
		w.t.Errorf("cancel: %v", err)
	}
}

// nothing makes a call without a result one with.
func nothing(err error) (struct{}, error) { return struct{}{}, err }

type mortalStore struct {
	*sqlstore.Store
	m *manager
}

func (s *mortalStore) InTx(ctx context.Context, fn func(context.Context, store.Tx) error) error {
	var own error
	_, err := outside(ctx, s.m, "store.InTx", func() (struct{}, error) {
		own = s.Store.InTx(ctx, fn)
		return nothing(own)
	})
	return err
}

func (s *mortalStore) DueOperations(ctx context.Context, now time.Time, limit int) ([]store.OperationRow, error) {
	if s.m.isDead() {
		runtime.Goexit()
	}
	return s.Store.DueOperations(ctx, now, limit)
}

type mortalCloud struct {
	*fake.Cloud
	m *manager
}

func (c *mortalCloud) EnsureMachine(ctx context.Context, s cloud.MachineSpec) (cloud.Machine, error) {
	return outside(ctx, c.m, "EnsureMachine", func() (cloud.Machine, error) { return c.Cloud.EnsureMachine(ctx, s) })
}

func (c *mortalCloud) ResizeMachine(ctx context.Context, id string, f trove.Flavor) (cloud.Machine, error) {
	return outside(ctx, c.m, "ResizeMachine", func() (cloud.Machine, error) { return c.Cloud.ResizeMachine(ctx, id, f) })
}

func (c *mortalCloud) FindMachine(ctx context.Context, id string) (cloud.Machine, error) {
	return outside(ctx, c.m, "FindMachine", func() (cloud.Machine, error) { return c.Cloud.FindMachine(ctx, id) })
}

func (c *mortalCloud) StopMachine(ctx context.Context, id string) error {
	_, err := outside(ctx, c.m, "StopMachine", func() (struct{}, error) { return nothing(c.Cloud.StopMachine(ctx, id)) })
	return err
}

func (c *mortalCloud) RebootMachine(ctx context.Context, id string) error {
	_, err := outside(ctx, c.m, "RebootMachine", func() (struct{}, error) { return nothing(c.Cloud.RebootMachine(ctx, id)) })
	return err
}

func (c *mortalCloud) MachineHost(ctx context.Context, id string) (string, error) {
	return outside(ctx, c.m, "MachineHost", func() (string, error) { return c.Cloud.MachineHost(ctx, id) })
}

func (c *mortalCloud) MigrateMachine(ctx context.Context, id, host string) error {
	_, err := outside(ctx, c.m, "MigrateMachine", func() (struct{}, error) { return nothing(c.Cloud.MigrateMachine(ctx, id, host)) })
	return err
}

func (c *mortalCloud) RemoveMachine(ctx context.Context, id string) error {
	_, err := outside(ctx, c.m, "RemoveMachine", func() (struct{}, error) { return nothing(c.Cloud.RemoveMachine(ctx, id)) })
	return err
}

func (c *mortalCloud) EnsureVolume(ctx context.Context, s cloud.VolumeSpec) (cloud.Volume, error) {
	return outside(ctx, c.m, "EnsureVolume", func() (cloud.Volume, error) { return c.Cloud.EnsureVolume(ctx, s) })
}

func (c *mortalCloud) FindVolume(ctx context.Context, id string) (cloud.Volume, error) {
	return outside(ctx, c.m, "FindVolume", func() (cloud.Volume, error) { return c.Cloud.FindVolume(ctx, id) })
}

func (c *mortalCloud) RemoveVolume(ctx context.Context, id string) error {
	_, err := outside(ctx, c.m, "RemoveVolume", func() (struct{}, error) { return nothing(c.Cloud.RemoveVolume(ctx, id)) })
	return err
}

func (c *mortalCloud) EnsureNetwork(ctx context.Context, s cloud.NetworkSpec) (cloud.Network, error) {
	return outside(ctx, c.m, "EnsureNetwork", func() (cloud.Network, error) { return c.Cloud.EnsureNetwork(ctx, s) })
}

func (c *mortalCloud) RemoveNetwork(ctx context.Context, id string) error {
	_, err := outside(ctx, c.m, "RemoveNetwork", func() (struct{}, error) { return nothing(c.Cloud.RemoveNetwork(ctx, id)) })
	return err
}

func (c *mortalCloud) EnsureName(ctx context.Context, id string, a []trove.Address) (string, error) {
	return outside(ctx, c.m, "EnsureName", func() (string, error) { return c.Cloud.EnsureName(ctx, id, a) })
}

func (c *mortalCloud) RemoveName(ctx context.Context, id string) error {
	_, err := outside(ctx, c.m, "RemoveName", func() (struct{}, error) { return nothing(c.Cloud.RemoveName(ctx, id)) })
	return err
}

type mortalGuests struct {
	*guestapi.Client
	m *manager
}

func (g *mortalGuests) Start(ctx context.Context, instance, id string, c guestapi.Command, args any) (guestapi.OperationStatus, error) {
	return outside(ctx, g.m, "Start "+string(c), func() (guestapi.OperationStatus, error) { return g.Client.Start(ctx, instance, id, c, args) })
}

func (g *mortalGuests) Status(ctx context.Context, instance, id string) (guestapi.OperationStatus, error) {
	return outside(ctx, g.m, "Status", func() (guestapi.OperationStatus, error) { return g.Client.Status(ctx, instance, id) })
}

func (g *mortalGuests) Ping(ctx context.Context, instance string) (guestapi.Hello, error) {
	return outside(ctx, g.m, "Ping", func() (guestapi.Hello, error) { return g.Client.Ping(ctx, instance) })
}

type enrolment struct{}

func (enrolment) EnrolURLs() []string { return []string{"https://192.0.2.1:4223"} }
func (enrolment) CABundle() string    { return "a certificate" }

// sealer seals without a secret, but bound to the purpose, and so that the plain text is not in the sealed one.
type sealer struct{}

func (sealer) Seal(_ context.Context, purpose string, plain trove.Secret) (string, error) {
	return purpose + "|" + hex.EncodeToString([]byte(plain.Reveal())), nil
}

func (sealer) Open(_ context.Context, purpose, sealed string) (trove.Secret, error) {
	text, ok := strings.CutPrefix(sealed, purpose+"|")
	if !ok {
		return "", trove.Permanent(errors.New("sealed for something else"))
	}
	plain, err := hex.DecodeString(text)
	return trove.Secret(plain), err
}

// newAgent is the release that there is.
const newAgent = "1.3.0"

// mortalAgents has one release.
type mortalAgents struct{ m *manager }

func (a *mortalAgents) Get(version string) (agentrelease.Manifest, agentrelease.Signed, error) {
	if version != "" && version != newAgent {
		return agentrelease.Manifest{}, agentrelease.Signed{}, trove.Errorf(trove.KindNotFound, "There is no release %s.", version)
	}
	return agentrelease.Manifest{Version: newAgent}, agentrelease.Signed{}, nil
}

func (a *mortalAgents) Grant(ctx context.Context, instance, _ string, m agentrelease.Manifest) (guestapi.Grant, error) {
	return outside(ctx, a.m, "Grant", func() (guestapi.Grant, error) {
		return guestapi.Grant{Token: instance, Prefix: guestapi.AgentPrefix(m.Version)}, nil
	})
}

// request does what the API does in one transaction: it changes the row and enqueues the operation.
func (w *world) request(kind string) string {
	w.t.Helper()
	var id string
	err := w.store.InTx(w.t.Context(), func(ctx context.Context, tx store.Tx) error {
		input, err := w.accept(ctx, tx, kind)
		if err != nil {
			return err
		}
		id, err = workflow.Enqueue(ctx, tx, time.Now(), workflow.Request{
			Kind: operationOf(kind), Target: instanceID, ProjectID: project, RequestID: "req-1", Input: input,
		})
		return err
	})
	if err != nil {
		w.t.Fatalf("request %s: %v", kind, err)
	}
	w.wake()
	return id
}

func (w *world) accept(ctx context.Context, tx store.Tx, kind string) (any, error) {
	change := func(task trove.Task, take map[string]int) error {
		if err := tx.TakeQuota(ctx, project, take); err != nil {
			return err
		}
		return tx.UpdateInstance(ctx, instanceID, time.Now(), func(i *trove.Instance) error {
			i.Task = task
			for resource, n := range take {
				i.Held[resource] += n
			}
			return nil
		})
	}
	switch kind {
	case trove.OpCreate:
		held := map[string]int{trove.QuotaInstances: 1, trove.QuotaRAM: w.flavor.RAM, trove.QuotaVolumes: 1}
		secrets, err := json.Marshal(trove.CreateSecrets{
			Users: []trove.CreateUser{{Name: "u1", Host: "%", Password: password, Databases: []string{"d1"}}}, RootPassword: password,
		})
		sealed, _ := sealer{}.Seal(ctx, trove.SecretPurpose(instanceID), trove.Secret(secrets))
		return trove.CreateInput{Flavor: w.flavor, Databases: []trove.Database{{Name: "d1"}}, Sealed: sealed}, errors.Join(err,
			tx.TakeQuota(ctx, project, held),
			tx.InsertInstance(ctx, trove.Instance{
				ID: instanceID, ProjectID: project, Name: "db", Created: time.Now(), Updated: time.Now(), Task: trove.TaskBuilding,
				DatastoreVersionID: versionID, FlavorID: w.flavor.ID, VolumeSize: 1, Access: openToAll, ServerID: 7, Held: held,
			}))
	case trove.OpDelete, stoppedDelete:
		return nil, change(trove.TaskDeleting, nil)
	case trove.OpRestart, trove.OpStop, trove.OpStart:
		return nil, change(trove.TaskRebooting, nil)
	case trove.OpReboot:
		return nil, errors.Join(change(trove.TaskRebooting, nil), tx.SetServiceStatus(ctx, instanceID, trove.ServiceRestarting, time.Now()))
	case trove.OpRebuild:
		return nil, change(trove.TaskBuilding, nil)
	case trove.OpStopEngine:
		return nil, change(trove.TaskUpdating, nil)
	case trove.OpMigrate:
		return trove.MigrateInput{}, change(trove.TaskMigrating, nil)
	case trove.OpResizeVolume, stoppedVolume:
		return trove.ResizeVolumeInput{Old: 1, New: 3}, change(trove.TaskResizing, map[string]int{trove.QuotaVolumes: 2})
	case trove.OpUpgradeAgent:
		return trove.UpgradeAgentInput{}, nil
	case trove.OpUpdateAccess:
		return trove.UpdateAccessInput{Old: openToAll, New: openToOne}, change(trove.TaskUpdating, nil)
	case trove.OpResizeFlavor, stoppedFlavor:
		return trove.ResizeFlavorInput{Old: flavorSmall, New: flavorLarge},
			change(trove.TaskResizing, map[string]int{trove.QuotaRAM: flavorLarge.RAM - flavorSmall.RAM})
	case shrinkFlavor: // the quota is given back when it is done
		return trove.ResizeFlavorInput{Old: flavorLarge, New: flavorSmall}, change(trove.TaskResizing, nil)
	}
	return nil, fmt.Errorf("no operation %q", kind)
}

// shrinkFlavor stands for a resize to a smaller flavor.
const shrinkFlavor = trove.OpResizeFlavor + "/shrink"

// stoppedVolume and stoppedFlavor stand for resizes of an instance that is stopped, stoppedDelete for its delete.
const (
	stoppedVolume = trove.OpResizeVolume + "/stopped"
	stoppedFlavor = trove.OpResizeFlavor + "/stopped"
	stoppedDelete = trove.OpDelete + "/stopped"
)

// operationOf returns the kind of operation without what a test says of its circumstances.
func operationOf(kind string) string {
	kind, _, _ = strings.Cut(kind, "/")
	return kind
}

// beginsStopped reports whether the operation is on an instance that is stopped.
func beginsStopped(kind string) bool {
	return kind == trove.OpStart || strings.HasSuffix(kind, "/stopped")
}

// firstFlavor is what the instance of a test is created with.
func firstFlavor(kind string) trove.Flavor {
	if kind == shrinkFlavor {
		return flavorLarge
	}
	return flavorSmall
}

// carryOut runs taskmanagers, a new one whenever one was killed, until the operation is closed.
func (w *world) carryOut(id string) trove.Operation {
	w.t.Helper()
	m := w.start()
	defer func() { m.stop() }()
	for range 20000 {
		op, err := w.store.Operation(w.t.Context(), id)
		if err != nil {
			w.t.Fatal(err)
		}
		if op.State != trove.OperationOpen {
			return op
		}
		if m.isDead() {
			m.stop()
			m = w.start()
		}
		time.Sleep(100 * time.Millisecond) //nolint:forbidigo // of the bubble's time
	}
	op, _ := w.store.Operation(w.t.Context(), id)
	w.t.Fatalf("operation %s is still open: step %s, %s; calls %v", op.Kind, op.Step, op.Sentence, w.calls)
	return op
}
