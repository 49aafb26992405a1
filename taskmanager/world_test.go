package taskmanager_test

import (
	"context"
	"encoding/hex"
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
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/engineca"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/taskmanager"
	"github.com/trove-dbaas/trove/taskmanager/guesttest"
)

const (
	instanceID = "11111111-1111-4111-8111-111111111111"
	versionID  = "22222222-2222-4222-8222-222222222222"
	newVersion = "22222222-2222-4222-8222-222222222223"
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

	inPlace bool // the cloud gives machines another image in place
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
			}),
			tx.PutDatastoreVersion(ctx, trove.DatastoreVersion{
				ID: newVersion, DatastoreID: "33333333-3333-4333-8333-333333333333", Name: "11.8", Version: "11.8", Manager: "fake",
				ImageID: "image-2", Active: true, Capabilities: trove.Capabilities{Port: 3306, Volume: true},
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
		Flavors: []trove.Flavor{flavorSmall, flavorLarge}, Images: []string{"image-1", "image-2"}, Domain: "db.example", Looks: 1, Hosts: []string{"h1", "h2"},
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
	var provider cloud.Provider = &mortalCloud{w.cloud.Reopen(), m}
	if w.inPlace {
		provider = &inPlaceCloud{&mortalCloud{w.cloud.Reopen(), m}}
	}
	m.Manager, err = taskmanager.New(taskmanager.Config{
		Store: &mortalStore{w.store, m}, Cloud: provider,
		Guests:    &mortalGuests{guestapi.NewClient(w.broker.Conn("taskmanager")), m},
		Certifier: engineca.New(engineca.Config{Store: &mortalStore{w.store, m}, Sealer: sealer{}, Clock: clock.System{}, Log: log}),
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
