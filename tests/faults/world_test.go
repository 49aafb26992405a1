// Package faults_test takes away what the whole service needs while clients use it: the database, the bus, the space on the disk, and one of its own processes
// after the other. The API with its server, taskmanager, conductor, broker and guest agents are the real ones, two of each but for the broker, each with its own
// connections, over PostgreSQL, MariaDB or SQLite; the cloud and the database servers of the instances are the fakes that pass the suites of their ports.
package faults_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/membus"
	"github.com/trove-dbaas/trove/bus/natsbus"
	"github.com/trove-dbaas/trove/bus/natsbus/server"
	"github.com/trove-dbaas/trove/cloud/fake"
	"github.com/trove-dbaas/trove/conductor"
	"github.com/trove-dbaas/trove/guestapi"
	identity "github.com/trove-dbaas/trove/identity/local"
	"github.com/trove-dbaas/trove/identity/policy"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/edge"
	"github.com/trove-dbaas/trove/internal/keyfile"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/taskmanager"
	"github.com/trove-dbaas/trove/tests/dbserver"
	"github.com/trove-dbaas/trove/tests/inmemory"
	"github.com/trove-dbaas/trove/tests/ports"
)

const (
	patience = time.Minute
	user     = "alice"
	project  = "zoo"
	login    = trove.Secret("a password of the tests")
)

// part is one process of the service. It may be started again after it was stopped.
type part struct {
	name string
	run  func(ctx context.Context) (stop func() error, err error)
	stop func() error // nil: it does not run
}

// world is a service.
type world struct {
	t      *testing.T
	dir    string
	keys   string
	config sqlstore.Config // of each part's store
	store  *sqlstore.Store // the broker's and the test's own
	cloud  *fake.Cloud
	guests *inmemory.Guests
	log    *logs

	bus, enrol string // addresses
	ca         string // of the broker
	parts      []*part
	broker     *part
	apis       []string // addresses
}

// logs keeps what the parts say, for a test that fails.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newWorld starts two of each.
func newWorld(t *testing.T, config sqlstore.Config) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "flt") //nolint:usetesting // short: the paths of sockets are
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir, keys: filepath.Join(dir, "keys"), config: config, log: &logs{}, bus: freePort(t), enrol: freePort(t)}
	t.Cleanup(w.close)
	if err := os.MkdirAll(w.keys, 0o700); err != nil {
		t.Fatal(err)
	}
	if w.store, err = sqlstore.Open(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if err := w.store.InTx(t.Context(), inmemory.PutDatastore); err != nil {
		t.Fatal(err)
	}
	w.guests = inmemory.NewGuests(filepath.Join(dir, "g"), w.store, membus.New(), nil)
	w.guests.Join, w.guests.Log = w.join, w.logger("guest")
	w.cloud = fake.New(fake.Options{Images: []string{inmemory.ImageID}, Boot: w.guests.Boot, Halt: w.guests.Halt})
	w.broker = &part{name: "broker", run: w.runBroker}
	w.begin(w.broker)
	for n := range 2 {
		w.apis = append(w.apis, freePort(t))
		w.add(fmt.Sprint("api-", n), w.runAPI(w.apis[n]))
		w.add(fmt.Sprint("taskmanager-", n), w.runTaskmanager)
		w.add(fmt.Sprint("conductor-", n), w.runConductor)
	}
	return w
}

func (w *world) add(name string, run func(context.Context, *slog.Logger) (func() error, error)) {
	p := &part{name: name, run: func(ctx context.Context) (func() error, error) { return run(ctx, w.logger(name)) }}
	w.parts = append(w.parts, p)
	w.begin(p)
}

func (w *world) logger(name string) *slog.Logger {
	return slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelWarn})).With("part", name)
}

func (w *world) begin(p *part) {
	w.t.Helper()
	stop, err := p.run(context.WithoutCancel(w.t.Context()))
	if err != nil {
		w.t.Fatalf("start %s: %v", p.name, err)
	}
	p.stop = stop
}

func (w *world) end(p *part) {
	w.t.Helper()
	if p.stop == nil {
		return
	}
	if err := p.stop(); err != nil {
		w.t.Errorf("stop %s: %v", p.name, err)
	}
	p.stop = nil
}

func (w *world) close() {
	for _, p := range slices.Backward(w.parts) {
		w.end(p)
	}
	if w.guests != nil {
		w.guests.HaltAll()
	}
	if w.broker != nil {
		w.end(w.broker)
	}
	if w.store != nil {
		if err := w.store.Close(); err != nil {
			w.t.Error(err)
		}
	}
	if w.t.Failed() {
		text := w.log.String()
		w.t.Logf("the service said at the end:\n%s", text[max(0, len(text)-20_000):])
	}
	if err := os.RemoveAll(w.dir); err != nil {
		w.t.Error(err)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	port, err := ports.Free()
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

func (w *world) runBroker(ctx context.Context) (func() error, error) {
	b, err := server.Start(ctx, server.Config{
		Keys: keyfile.Dir(w.keys), Listen: w.bus, EnrolListen: w.enrol, Repository: server.NewMemoryRepository(), Guests: enrolments{w.store},
		Log: w.logger("broker"),
	})
	if err != nil {
		return nil, err
	}
	w.ca = b.CABundle()
	return b.Close, nil
}

// enrolments answers the broker from the store, as the service does.
type enrolments struct{ store store.Store }

func (e enrolments) UseEnrolmentToken(ctx context.Context, hash, key string) (instance string, err error) {
	err = e.store.InTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		instance, err = tx.UseEnrolmentToken(ctx, hash, key, clock.System{}.Now())
		return err
	})
	return instance, err
}

func (e enrolments) TokenOwner(ctx context.Context, hash string) (string, error) {
	return e.store.TokenOwner(ctx, hash)
}

func (e enrolments) GuestKey(ctx context.Context, instance string) (string, error) {
	g, err := e.store.Guest(ctx, instance)
	return g.PublicKey, err
}

func (e enrolments) CredentialIssued(ctx context.Context, instance string, expires time.Time, trust string) error {
	return e.store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		return errors.Join(tx.SetGuestCredential(ctx, instance, expires), tx.SetGuestTrust(ctx, instance, trust))
	})
}

// join is what an agent does in a machine.
func (w *world) join(ctx context.Context, boot bus.BootData, state string, connected func()) (bus.Conn, error) {
	dir := filepath.Join(state, "identity")
	if err := natsbus.Enrol(ctx, boot, dir); err != nil {
		return nil, err
	}
	return natsbus.DialGuest(ctx, dir, natsbus.Options{Log: w.logger("guest"), OnConnect: func(context.Context) { connected() }})
}

// enrolment is what the taskmanager tells a machine that boots.
type enrolment struct {
	url, ca string
}

func (e enrolment) EnrolURLs() []string { return []string{e.url} }
func (e enrolment) CABundle() string    { return e.ca }

// dial connects a part to the bus.
func (w *world) dial(ctx context.Context, name string, log *slog.Logger) (*server.Controller, error) {
	return server.DialController(ctx, server.ControllerConfig{
		Keys: keyfile.Dir(w.keys), Address: func() (string, error) { return w.bus, nil }, Name: name, Log: log,
	})
}

// ends runs what ends a part, the last begun first.
type ends []func() error

func (e ends) end() error {
	var errs []error
	for _, f := range slices.Backward(e) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// open opens what each part has: a store and a connection to the bus.
func (w *world) open(ctx context.Context, name string, log *slog.Logger) (*sqlstore.Store, *server.Controller, ends, error) {
	cfg := w.config
	cfg.Log = log
	st, err := sqlstore.Open(ctx, cfg)
	if err != nil {
		return nil, nil, nil, err
	}
	conn, err := w.dial(ctx, name, log)
	if err != nil {
		return nil, nil, nil, errors.Join(err, st.Close())
	}
	return st, conn, ends{st.Close, conn.Close}, nil
}

// background runs a service until it is ended.
func background(ctx context.Context, run func(context.Context) error) func() error {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	return func() error {
		cancel()
		return <-done
	}
}

func (w *world) runTaskmanager(ctx context.Context, log *slog.Logger) (func() error, error) {
	st, conn, all, err := w.open(ctx, "requests", log)
	if err != nil {
		return nil, err
	}
	m, err := taskmanager.New(taskmanager.Config{
		Store: st, Cloud: w.cloud, Guests: guestapi.NewClient(conn), Enrolment: enrolment{"https://" + w.enrol, w.ca}, Sealer: inmemory.Sealer{},
		Clock: clock.System{}, Log: log, Reconcile: time.Second,
	})
	if err == nil {
		_, err = conn.Subscribe(ctx, guestapi.WakeSubject, "", func(context.Context, bus.Message) { m.Wake() })
	}
	if err != nil {
		return nil, errors.Join(err, all.end())
	}
	return append(all, background(ctx, m.Run)).end, nil
}

func (w *world) runConductor(ctx context.Context, log *slog.Logger) (func() error, error) {
	st, conn, all, err := w.open(ctx, "reports", log)
	if err != nil {
		return nil, err
	}
	c, err := conductor.New(conductor.Config{Store: st, Conn: conn, Clock: clock.System{}, Log: log})
	if err != nil {
		return nil, errors.Join(err, all.end())
	}
	return append(all, background(ctx, c.Run)).end, nil
}

// runAPI serves as internal/app does, and stops so.
func (w *world) runAPI(address string) func(context.Context, *slog.Logger) (func() error, error) {
	return func(ctx context.Context, log *slog.Logger) (func() error, error) {
		st, conn, all, err := w.open(ctx, "requests", log)
		if err != nil {
			return nil, err
		}
		draining := make(chan struct{})
		h, err := w.handler(ctx, address, st, conn, draining, log)
		if err != nil {
			return nil, errors.Join(err, all.end())
		}
		inner, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err != nil {
			return nil, errors.Join(err, all.end())
		}
		l := edge.NewListener(inner)
		s := edge.NewServer(&http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}, draining, l)
		served := background(ctx, func(context.Context) error { return s.Serve(l) })
		return append(all, func() error {
			limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			s.Stop(limited)
			return errors.Join(served(), limited.Err())
		}).end, nil
	}
}

func (w *world) handler(ctx context.Context, address string, st *sqlstore.Store, conn bus.Conn, draining chan struct{}, log *slog.Logger) (http.Handler, error) {
	url := "http://" + address
	id := identity.New(identity.Config{Repository: st, Clock: clock.System{}, Log: log, PublicURL: url, Region: inmemory.Region})
	if _, _, err := id.EnsureAccount(ctx, user, login, project, "member", "admin"); err != nil {
		return nil, err
	}
	rules, err := policy.New(nil)
	if err != nil {
		return nil, err
	}
	handler, err := api.New(api.Config{
		Store: st, Auth: id, Policy: rules, Guests: guestapi.NewClient(conn), Catalog: w.cloud, Sealer: inmemory.Sealer{}, Clock: clock.System{}, Log: log,
		Wake:   func(ctx context.Context) { _ = conn.Publish(ctx, guestapi.WakeSubject, nil) }, // it looks every second by itself
		Region: inmemory.Region, DefaultDatastore: inmemory.Datastore, PublicEndpoint: url, Engines: inmemory.Engines(), Draining: draining, Rates: inmemory.Rates(),
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", handler)
	mux.Handle("/identity", id)
	mux.Handle("/identity/", id)
	return mux, nil
}

// balancer is what stands before several APIs: each connection goes to one that takes it.
type balancer struct {
	listener net.Listener
	to       []string
	wg       sync.WaitGroup
}

func newBalancer(t *testing.T, to []string) *balancer {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{listener: l, to: to}
	b.wg.Go(func() {
		for n := 0; ; n++ {
			in, err := l.Accept()
			if err != nil {
				return
			}
			b.wg.Go(func() { b.carry(in, n) })
		}
	})
	t.Cleanup(func() { _ = l.Close() })
	return b
}

func (b *balancer) carry(in net.Conn, n int) {
	defer func() { _ = in.Close() }()
	for k := range 2 * len(b.to) {
		out, err := net.Dial("tcp", b.to[(n+k)%len(b.to)])
		if err != nil {
			continue
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = io.Copy(out, in)
			_ = out.(*net.TCPConn).CloseWrite()
		}()
		_, _ = io.Copy(in, out)
		_ = in.Close()
		_ = out.Close()
		<-done
		return
	}
}

func TestMain(m *testing.M) {
	m.Run()
	dbserver.StopShared()
}
