package openstack_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/trove-dbaas/trove/client"
	"github.com/trove-dbaas/trove/image"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/tests/openstack"
)

// move is the move of instances from a Python Trove to a service.
type move struct {
	t       *testing.T
	cloud   *openstack.Cloud
	service *service
	machine *openstack.Machine // of the tenant, on his network
	root    string             // the file system that the container has its programs from
	table   *timetable
	container
}

// adoption moves one instance of a Python Trove for good, and another one here, back, here and back. The cloud is then as before.
func adoption(t *testing.T, c *openstack.Cloud, s *service, k container) {
	before := take(t, c)
	title := k.engine
	title.apart = ", moved from a Python Trove"
	m := &move{t: t, cloud: c, service: s, table: newTimetable(t, title), container: k}
	var ids []string
	t.Run(k.datastore+" from a Python Trove", func(t *testing.T) {
		m.t, m.root = t, programs(t, k.engine)
		m.machine = tenantMachine(t, c)
		stays := layOut(t, c, "stays-"+unique, k.volume(t, m.root, "ext4"))
		returns := layOut(t, c, "returns-"+unique, k.volume(t, m.root, "ext3")) // what Trove makes where nobody says otherwise
		ids = append(stays.ids(), returns.ids()...)
		m.take(stays, returns)
		m.moves(stays)
		m.returns(returns)
	})
	m.table.print(t)
	nothingLeft(t, c, before, ids...)
}

// programs is the root file system that the image of an engine was made from: it has the programs of the container too.
func programs(t *testing.T, e engine) string {
	t.Helper()
	dir := os.Getenv("TROVE_CACHE")
	if dir == "" {
		dir = filepath.Join(repository, "var", "cache")
	}
	root, err := image.EnsureRoot(t.Context(), image.RootSpec{
		Datastore: e.datastore, Version: e.version, CacheDir: dir, Progress: func(image.Event) {}, Log: slog.New(slog.DiscardHandler), Clock: clock.System{},
	})
	if err != nil {
		t.Fatal(err)
	}
	return root.Dir
}

// ids are what the inventory may name.
func (o *old) ids() []string { return []string{o.id, o.server, o.volume, o.port, o.group} }

// trove runs `trove manage` for the service, and logs what it says.
func (m *move) trove(args ...string) string {
	m.t.Helper()
	out := m.service.trove(append([]string{"manage", "--state", m.service.dir}, args...)...)
	m.t.Logf("trove manage %s:\n%s", strings.Join(args, " "), out)
	return out
}

// take imports the rows.
func (m *move) take(all ...*old) {
	m.t.Helper()
	from := m.database(m.t, m.cloud, all...)
	m.trove("import-trove", "--from", from)
	m.trove("import-trove", "--from", from, "--apply")
	for _, o := range all {
		i, err := m.service.client("demo").Instance(m.t.Context(), o.id)
		if err != nil || i.Status != "UNKNOWN" || i.Fault == nil {
			m.t.Fatalf("the imported instance is %+v, %v", i, err)
		}
		if plan := m.trove("adopt", o.id); strings.Contains(plan, "in the way") || !strings.Contains(plan, o.server) || !strings.Contains(plan, o.address) {
			m.t.Fatalf("the plan is\n%s", plan)
		}
		o.isOld()
	}
}

// adopt takes an instance over and returns when the tenant could log in first after its database was taken away.
func (m *move) adopt(o *old) *story {
	m.t.Helper()
	st := &story{t: m.t, cloud: m.cloud, service: m.service, machine: m.machine, engine: m.engine, name: o.name, id: o.id, address: o.address, ca: filepath.Join(m.service.dir, "adopted.pem")}
	m.t.Cleanup(func() { m.whatTheGuestSays(o) })
	login := m.login(o)
	said := m.trove("adopt", o.id, "--apply")
	began, parts := phases(said, time.Now())
	m.table.row("taken over: from the stop of the old server to the tenant's login", (<-login).Sub(began), parts)
	i, err := m.service.client("demo").Instance(m.t.Context(), o.id)
	if err != nil || i.Status != "ACTIVE" || i.OperatingStatus != "HEALTHY" || len(i.Addresses) != 1 || i.Addresses[0].Address != o.address {
		m.t.Fatalf("the instance is %+v, %v", i, err)
	}
	if s := o.serverNow(); s.Status != "SHUTOFF" {
		m.t.Errorf("the old server is %s", s.Status)
	}
	tls, err := m.service.client("demo").SSL(m.t.Context(), o.id, true)
	if err != nil || tls.Certificate == nil || tls.Certificate.Authorities == "" {
		m.t.Fatalf("TLS of the instance: %+v, %v", tls, err)
	}
	if err := os.WriteFile(st.ca, []byte(tls.Certificate.Authorities), 0o600); err != nil {
		m.t.Fatal(err)
	}
	st.query(m.read, "kept") // the engine's own client, which verifies the server now
	return st
}

// login tries to log in as the tenant's application does until it can, and returns when that was.
func (m *move) login(o *old) <-chan time.Time {
	m.t.Helper()
	db := m.open(o, "anna", m.password)
	when := make(chan time.Time, 1)
	ctx, cancel := context.WithTimeout(m.t.Context(), 15*time.Minute)
	go func() {
		defer cancel()
		defer close(when)
		for ctx.Err() == nil {
			try, end := context.WithTimeout(ctx, 5*time.Second)
			err := db.PingContext(try)
			end()
			if err == nil {
				when <- time.Now()
				return
			}
			time.Sleep(300 * time.Millisecond)
		}
	}()
	return when
}

// open is the tenant's application on his network: it speaks no TLS, as with the old server.
func (m *move) open(o *old, user string, password string) *sql.DB {
	m.t.Helper()
	config := driver.NewConfig()
	config.User, config.Passwd, config.DBName = user, password, "shop"
	config.Net, config.Addr, config.Timeout, config.Logger = "tcp", net.JoinHostPort(o.address, m.port), 3*time.Second, &driver.NopLogger{}
	config.DialFunc = func(ctx context.Context, _, address string) (net.Conn, error) { return m.machine.Dial(ctx, address) }
	connector, err := driver.NewConnector(config)
	if err != nil {
		m.t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	m.t.Cleanup(func() { _ = db.Close() })
	return db
}

// phases are the lines of `trove manage adopt`, each with how long it was the last one, from the first line on, which is also returned.
func phases(said string, ended time.Time) (began time.Time, parts string) {
	var all []string
	last, doing := ended, ""
	note := func(now time.Time, next string) {
		if took := now.Sub(last); took >= time.Second {
			all = append(all, fmt.Sprintf("%s %.0f", doing, took.Seconds()))
		}
		last, doing = now, next
	}
	began = ended
	for line := range strings.Lines(said) {
		clock, text, ok := strings.Cut(strings.TrimSpace(line), "  ")
		at, err := time.ParseInLocation(time.DateTime, ended.Format(time.DateOnly)+" "+clock, time.Local)
		if !ok || err != nil {
			continue
		}
		if at.After(ended) {
			at = at.AddDate(0, 0, -1) // it was midnight meanwhile
		}
		if at.Before(began) {
			began = at
		}
		note(at, text)
	}
	note(ended, "")
	return began, strings.Join(all, ", ")
}

// moves takes an instance over for good, and uses it as any other.
func (m *move) moves(o *old) {
	m.t.Helper()
	st := m.adopt(o)
	db := m.open(o, "anna", m.password)
	var name, value string
	if err := db.QueryRowContext(m.t.Context(), "SHOW VARIABLES LIKE 'max_connections'").Scan(&name, &value); err != nil || value != "77" {
		m.t.Errorf("the configuration group that was imported: %s = %s, %v", name, value, err)
	}
	c, ctx := m.service.client("demo"), m.t.Context()
	users, err := c.Users(ctx, o.id)
	if err != nil || len(users) != 1 || users[0].Name != "anna" {
		m.t.Errorf("the users are %v, %v", users, err)
	}
	m.trove("adopt", o.id, "--finish")
	for _, path := range []string{"compute /servers/" + o.server, "network /v2.0/security-groups/" + o.group} {
		service, path, _ := strings.Cut(path, " ")
		eventually(m.t, time.Minute, path+" to be gone", func() bool { return o.try("GET", service, path, nil, nil) != nil })
	}
	st.query(m.read, "kept")
	if err := c.ResizeVolume(ctx, o.id, 2); err != nil {
		m.t.Fatal(err)
	}
	m.table.add("resize the volume to 2 GiB", st.finish(""))
	st.grown(2)
	if err := c.RestartInstance(ctx, o.id); err != nil {
		m.t.Fatal(err)
	}
	m.table.add("restart", st.finish(""))
	st.query(m.read, "kept")
	m.delete(o)
}

// returns takes an instance over and goes back to the old server, twice. What was written here is lost each time. Then the row is deleted here, which leaves the other Trove its
// instance.
func (m *move) returns(o *old) {
	m.t.Helper()
	for range 2 {
		m.adopt(o)
		if _, err := m.open(o, "anna", m.password).ExecContext(m.t.Context(), "INSERT INTO t VALUES ('later')"); err != nil {
			m.t.Fatal(err)
		}
		said := m.trove("adopt", o.id, "--back")
		now := time.Now()
		began, parts := phases(said, now)
		m.table.row("back: from the end of the new machine until the old server runs", now.Sub(began), parts)
		o.isOld()
		if rows, passwords := m.rows(m.t, m.root, o); !slices.Equal(rows, []string{"kept"}) || !passwords {
			m.t.Errorf("on the old volume are the rows %q, and Trove's passwords: %t", rows, passwords)
		}
		i, err := m.service.client("demo").Instance(m.t.Context(), o.id)
		if err != nil || i.Status != "UNKNOWN" || i.Fault == nil || len(i.Addresses) > 0 {
			m.t.Errorf("the instance is %+v, %v", i, err)
		}
	}
	m.delete(o)
	o.isOld()
}

func (m *move) delete(o *old) {
	m.t.Helper()
	c, ctx := m.service.client("demo"), m.t.Context()
	if err := c.DeleteInstance(ctx, o.id); err != nil {
		m.t.Fatal(err)
	}
	eventually(m.t, 3*time.Minute, "the instance to be gone", func() bool {
		_, err := c.Instance(ctx, o.id)
		return client.IsNotFound(err)
	})
}

// whatTheGuestSays shows the console of a test that has failed, and removes what the service has of the instance as far as it lets it.
func (m *move) whatTheGuestSays(o *old) {
	if !m.t.Failed() {
		return
	}
	ctx := context.WithoutCancel(m.t.Context())
	servers, _ := m.cloud.Servers(ctx, "trove-"+o.id)
	for _, server := range servers {
		console, _ := m.cloud.Console(ctx, server.ID)
		m.t.Logf("server %s is %s %s %s; its console:\n%s", server.ID, server.Status, server.TaskState, server.Fault.Message, console)
	}
	if c := m.service.client("demo"); c.DeleteInstance(ctx, o.id) == nil {
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Second) {
			if _, err := c.Instance(ctx, o.id); client.IsNotFound(err) {
				return
			}
		}
	}
	m.t.Logf("the service still has instance %s", o.id)
}
