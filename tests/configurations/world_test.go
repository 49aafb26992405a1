// Package configurations_test attaches configuration groups over the REST API to a real MariaDB server behind a real guest agent, on a bus in memory. There
// is no cloud: the server runs on a loopback address of this machine.
package configurations_test

import (
	"context"
	"crypto/tls"
	"database/sql"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/membus"
	"github.com/trove-dbaas/trove/cloud/fake"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/mariadb"
	"github.com/trove-dbaas/trove/guestagent"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/identity"
	"github.com/trove-dbaas/trove/identity/policy"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/taskmanager/reconcilers"
)

const (
	project    = "p1"
	instanceID = "11111111-1111-4111-8111-111111111111"
	versionID  = "22222222-2222-4222-8222-222222222222"
	storeID    = "33333333-3333-4333-8333-333333333333"
	address    = "127.61.7.1"
	engineID   = 65534 // the account that the server runs as: one that owns nothing
	patience   = time.Minute

	password trove.Secret = "alice-password"
)

var flavor = trove.Flavor{ID: "1", Name: "db.tiny", RAM: 512, VCPUs: 1}

type auth struct{}

func (auth) Authenticate(context.Context, identity.Tokens) (identity.Caller, error) {
	return identity.Caller{UserID: "u", ProjectID: project, Roles: []string{"member"}}, nil
}
func (auth) AuthURL() string { return "http://identity.example/v3" }

type sealer struct{}

func (sealer) Seal(context.Context, string, trove.Secret) (string, error) {
	return "", errors.New("nothing is sealed here")
}

func (sealer) Open(context.Context, string, string) (trove.Secret, error) {
	return "", errors.New("nothing is sealed here")
}

type enrolment struct{}

func (enrolment) EnrolURLs() []string { return nil }
func (enrolment) CABundle() string    { return "" }

// world is the API with one instance, whose guest agent may be stopped and started.
type world struct {
	t       *testing.T
	store   *sqlstore.Store
	broker  *membus.Broker
	guests  *guestapi.Client
	api     http.Handler
	engine  *mariadb.Engine
	layout  engine.Layout
	configs *reconcilers.Configurations
	stop    func() // the agent
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the agent's account in the server is that of the operating system's root")
	}
	if _, err := os.Stat("/usr/sbin/mariadbd"); err != nil {
		t.Fatalf("the server's programs are missing; install Debian's mariadb-server-core: %v", err)
	}
	dir, err := os.MkdirTemp("", "conf") //nolint:usetesting // t.TempDir is closed to other accounts and its path too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w := &world{
		t: t, broker: membus.New(), engine: mariadb.New(slog.New(slog.DiscardHandler), clock.System{}),
		layout: engine.Layout{Data: dir + "/data", Runtime: dir + "/run", State: dir + "/data/trove", UID: engineID, GID: engineID, Address: address},
	}
	for path, perm := range map[string]os.FileMode{dir: 0o755, w.layout.Data: 0o755, w.layout.Runtime: 0o711, w.layout.State: 0o700} {
		if err := errors.Join(os.MkdirAll(path, perm), os.Chmod(path, perm)); err != nil {
			t.Fatal(err)
		}
	}
	if w.store, err = sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(dir, "store.db"), NoSync: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = w.broker.Close(), w.store.Close() })
	w.guests = guestapi.NewClient(w.broker.Conn("controller"))
	w.fill()
	w.serve()
	return w
}

// fill writes the datastore with the driver's rules, and the instance.
func (w *world) fill() {
	w.t.Helper()
	now := clock.System{}.Now()
	err := w.store.InTx(w.t.Context(), func(ctx context.Context, tx store.Tx) error {
		return errors.Join(
			tx.PutDatastore(ctx, trove.Datastore{ID: storeID, Name: "mariadb", DefaultVersionID: versionID}),
			tx.PutDatastoreVersion(ctx, trove.DatastoreVersion{
				ID: versionID, DatastoreID: storeID, Name: "10.11", Version: "10.11", Manager: mariadb.Manager, Active: true, Capabilities: w.engine.Info().Capabilities,
			}),
			tx.ReplaceParameters(ctx, versionID, w.engine.Parameters()),
			tx.InsertInstance(ctx, trove.Instance{
				ID: instanceID, ProjectID: project, Name: "shop", Created: now, Updated: now, Task: trove.TaskNone, ServerStatus: trove.ServerActive,
				DatastoreVersionID: versionID, FlavorID: flavor.ID, VolumeSize: 1, ServerID: 7,
			}))
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) serve() {
	w.t.Helper()
	rules, err := policy.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	cloud := fake.New(fake.Options{Flavors: []trove.Flavor{flavor}})
	log := slog.New(slog.DiscardHandler)
	w.api, err = api.New(api.Config{
		Store: w.store, Auth: auth{}, Policy: rules, Guests: w.guests, Catalog: cloud, Sealer: sealer{}, Clock: clock.System{}, Log: log,
		DefaultDatastore: "mariadb", NoRateLimit: true,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	loop, err := reconcilers.New(reconcilers.Config{
		Store: w.store, Cloud: cloud, Guests: w.guests, Enrolment: enrolment{}, Clock: clock.System{}, Log: log, Deletes: reconcilers.NewQueue(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.configs = loop.Configurations
}

// startAgent starts the guest's agent.
func (w *world) startAgent() {
	w.t.Helper()
	a, err := guestagent.New(guestagent.Config{
		Instance: instanceID, BootID: "boot-1", Version: "1.2.3", Engine: w.engine, Layout: w.layout, Clock: clock.System{},
		Log: slog.New(slog.DiscardHandler),
		Connect: func(_ context.Context, connected func()) (bus.Conn, error) {
			connected()
			return w.broker.Conn("guest"), nil
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stopped := false
	w.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("the agent ended with %v", err)
		}
	}
	w.until("the agent answers", func() bool {
		_, err := w.guests.Ping(w.t.Context(), instanceID)
		return err == nil
	})
}

// prepared starts agent and database; the test's end stops both.
func (w *world) prepared(overrides map[string]json.RawMessage) {
	w.t.Helper()
	w.startAgent()
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(w.t.Context()), patience)
		defer cancel()
		_, _ = w.guests.Start(ctx, instanceID, "op/stop", guestapi.CmdStop, nil)
		for ctx.Err() == nil {
			if s, err := w.guests.Status(ctx, instanceID, "op/stop"); err == nil && s.State != guestapi.StateRunning {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		w.stop()
	})
	w.long("op/prepare", guestapi.CmdPrepare, guestapi.PrepareArgs{
		ServerID: 7, RAM: flavor.RAM, VCPUs: flavor.VCPUs, Overrides: overrides,
		Users: []guestapi.UserArgs{{Name: "alice", Password: password.Reveal()}},
	})
}

// long gives a long command and waits for its end.
func (w *world) long(id string, cmd guestapi.Command, args any) {
	w.t.Helper()
	if _, err := w.guests.Start(w.t.Context(), instanceID, id, cmd, args); err != nil {
		w.t.Fatalf("%s: %v", cmd, err)
	}
	var s guestapi.OperationStatus
	w.until(string(cmd), func() bool {
		var err error
		s, err = w.guests.Status(w.t.Context(), instanceID, id)
		return err == nil && s.State != guestapi.StateRunning
	})
	if s.State != guestapi.StateDone {
		w.t.Fatalf("%s ended with %+v", cmd, s.Error)
	}
}

// seen notes that the guest was heard of, as a conductor does.
func (w *world) seen() {
	w.t.Helper()
	err := w.store.InTx(w.t.Context(), func(ctx context.Context, tx store.Tx) error {
		return tx.RecordReports(ctx, []store.GuestReport{{InstanceID: instanceID, SeenAt: clock.System{}.Now(), BootID: "boot-1", Service: trove.ServiceHealthy}})
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) until(what string, is func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("waited %s for: %s", patience, what)
		}
	}
}

// ask sends a request and returns status and body.
func (w *world) ask(method, path, body string) (int, string) {
	w.t.Helper()
	req := httptest.NewRequestWithContext(w.t.Context(), method, "http://trove.example/v1.0/"+project+path, strings.NewReader(body))
	req.Header.Set("X-Auth-Token", "t")
	req.Header.Set("Content-Type", "application/json")
	rec := httptest.NewRecorder()
	w.api.ServeHTTP(rec, req)
	return rec.Code, rec.Body.String()
}

func (w *world) must(status int, method, path, body string) string {
	w.t.Helper()
	got, answer := w.ask(method, path, body)
	if got != status {
		w.t.Fatalf("%s %s: %d, want %d: %s", method, path, got, status, answer)
	}
	return answer
}

func (w *world) newGroup(values string) string {
	w.t.Helper()
	var body struct {
		Configuration struct{ ID string }
	}
	answer := w.must(http.StatusOK, http.MethodPost, "/configurations", `{"configuration":{"name":"g","values":`+values+`}}`)
	if err := json.Unmarshal([]byte(answer), &body); err != nil {
		w.t.Fatal(err)
	}
	return body.Configuration.ID
}

func (w *world) attach(group string) {
	w.t.Helper()
	w.must(http.StatusAccepted, http.MethodPut, "/instances/"+instanceID, `{"instance":{"configuration":`+group+`}}`)
}

// variable asks the database itself, as a client does.
func (w *world) variable(name string) string {
	w.t.Helper()
	c := mysql.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr = "alice", password.Reveal(), "tcp", net.JoinHostPort(address, "3306")
	c.TLS = &tls.Config{InsecureSkipVerify: true} // self-signed
	c.Logger = &mysql.NopLogger{}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		w.t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	defer func() { _ = db.Close() }()
	var value string
	if err := db.QueryRowContext(w.t.Context(), "SELECT @@global."+name).Scan(&value); err != nil {
		w.t.Fatal(err)
	}
	return value
}

func (w *world) wantVariable(when, name, want string) {
	w.t.Helper()
	if got := w.variable(name); got != want {
		w.t.Errorf("%s: %s is %s, want %s", when, name, got, want)
	}
}

func (w *world) task() trove.Task {
	w.t.Helper()
	i, err := w.store.Instance(w.t.Context(), instanceID)
	if err != nil {
		w.t.Fatal(err)
	}
	return i.Task
}
