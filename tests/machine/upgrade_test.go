package machine_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/backupstore/file"
	"github.com/trove-dbaas/trove/gateway"
	"github.com/trove-dbaas/trove/gateway/grant"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/agentrelease"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/keyfile"
	"github.com/trove-dbaas/trove/store"
)

// releases are what the controllers have of other releases of the agent, and the gateway where the guest finds them.
type releases struct {
	t      *testing.T
	c      *control
	key    string // file of the private key whose public half is in the image
	dir    string
	issuer *grant.Issuer
}

// Guest implements gateway.State.
func (g *tokens) Guest(ctx context.Context, instance string) (store.Guest, error) {
	key, err := g.GuestKey(ctx, instance)
	if err != nil || key == "" || instance != g.id {
		return store.Guest{}, trove.Errorf(trove.KindNotFound, "There is no guest of %s.", instance)
	}
	return store.Guest{InstanceID: instance, PublicKey: key}, nil
}

// Operation implements gateway.State.
func (*tokens) Operation(_ context.Context, id string) (trove.Operation, error) {
	return trove.Operation{ID: id, State: trove.OperationOpen}, nil
}

func newReleases(t *testing.T, c *control) *releases {
	t.Helper()
	r := &releases{t: t, c: c, key: os.Getenv("TROVE_TEST_RELEASE_KEY"), dir: t.TempDir()}
	if r.key == "" || os.Getenv("TROVE_TEST_RELEASE") == "" {
		t.Skip("needs an agent with the version 1.1.0 in TROVE_TEST_RELEASE and the private key of the image's releases in TROVE_TEST_RELEASE_KEY; scripts/machinetest.sh has them")
	}
	keys, err := grant.Open(t.Context(), keyfile.Dir(t.TempDir()), clock.System{})
	if err != nil {
		t.Fatal(err)
	}
	objects, err := file.Open(file.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = objects.Close() })
	port := freePort(t)
	g, err := gateway.Start(t.Context(), gateway.Config{
		Listen: "127.0.0.1:" + port, URLs: []string{"https://" + controllers + ":" + port}, TLS: c.broker.TLSConfig(), Grants: keys, Store: objects,
		Own: file.OpenDirectories(map[string]string{guestapi.AgentContainer: r.dir}), State: c.tokens, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	r.issuer = grant.NewIssuer(keys, c.tokens, func() ([]string, error) { return g.URLs(), nil }, clock.System{})
	return r
}

// add signs a program as a release and returns what the guest is told.
func (r *releases) add(program, version string) guestapi.UpgradeAgentArgs {
	r.t.Helper()
	v, err := agentrelease.ParseVersion(version)
	if err != nil {
		r.t.Fatal(err)
	}
	m, err := agentrelease.Describe(program, v, runtime.GOOS, runtime.GOARCH)
	if err != nil {
		r.t.Fatal(err)
	}
	key, err := agentrelease.ReadPrivateKey(r.key)
	if err != nil {
		r.t.Fatal(err)
	}
	signed, err := agentrelease.Sign(key, m)
	if err != nil {
		r.t.Fatal(err)
	}
	dir := filepath.Join(r.dir, version)
	if err := os.Mkdir(dir, 0o700); err != nil {
		r.t.Fatal(err)
	}
	if err := agentrelease.WriteProgram(program, filepath.Join(dir, agentrelease.ProgramFile), m); err != nil {
		r.t.Fatal(err)
	}
	made, err := r.issuer.Issue(r.t.Context(), grant.Spec{
		Instance: r.c.tokens.id, Container: backupstore.Container{Name: guestapi.AgentContainer}, Method: http.MethodGet,
		Prefix: guestapi.AgentPrefix(version), Life: time.Hour, Operation: "op",
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return guestapi.UpgradeAgentArgs{Version: version, SHA256: m.SHA256, Manifest: signed.Manifest, Signature: signed.Signature, Grant: made}
}

// version is what the agent said of itself last.
func (c *control) version() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.hellos) == 0 {
		return ""
	}
	return c.hellos[len(c.hellos)-1].AgentVersion
}

// A guest whose image is read-only takes another agent over the bus: it lies on the data volume, from which nothing is executed, and runs from memory. The
// database and its clients notice nothing, and it is the one that runs after a restart of the machine.
func TestAgentIsUpgradedInAMachine(t *testing.T) {
	root, _ := disk(t)
	c := newControl(t)
	r := newReleases(t, c)
	volume, client := newVolume(t, 2<<30), freePort(t)
	forward := [2]string{",hostfwd=tcp:127.0.0.1:" + client + "-" + userAddress + ":3306", ""}
	drive := configDrive(t, c.data(c.tokens.make()))
	v := start(t, root, drive, volume, forward)
	v.until("the agent is on the bus", func() bool { return c.version() != "" })
	first := c.version()
	c.long(v, guestapi.CmdPrepare, "op/prepare", guestapi.PrepareArgs{
		ServerID: 1, RAM: 512, VCPUs: 1, RootPassword: password, Databases: []trove.Database{{Name: "shop"}},
		Users: []guestapi.UserArgs{{Name: "anna", Password: password, Databases: []string{"shop"}}},
	})
	v.until("healthy", func() bool { _, h := c.seen(); return h.Service == trove.ServiceHealthy })
	execute(t, client, "anna", "shop", "CREATE TABLE t (n INT)", "INSERT INTO t VALUES (42)")
	db := open(t, client, "anna", "shop")
	defer func() { _ = db.Close() }()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()

	c.long(v, guestapi.CmdUpgradeAgent, "op/upgrade", r.add(os.Getenv("TROVE_TEST_RELEASE"), "1.1.0"))
	v.until("the new agent has said hello", func() bool { return c.version() == "1.1.0" })
	wantConnected(t, conn)

	// A release that cannot work is taken back, and the one before goes on.
	sick := filepath.Join(t.TempDir(), "sick")
	if err := os.WriteFile(sick, []byte("this is no program"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.failing(v, guestapi.CmdUpgradeAgent, "op/sick", r.add(sick, "1.2.0"), "Release 1.2.0 of the guest agent was taken back")
	if now := c.version(); now != "1.1.0" {
		t.Errorf("after a release that was taken back the agent is %s", now)
	}
	wantConnected(t, conn)

	_ = conn.Close()
	v.powerButton()
	hellos, _ := c.seen()
	v = start(t, root, drive, volume, forward)
	v.until("the agent is on the bus after a restart", func() bool { n, _ := c.seen(); return n > hellos })
	if now := c.version(); now != "1.1.0" || now == first {
		t.Errorf("after a restart of the machine the agent is %s; the image has %s", now, first)
	}
	v.until("the rows are there", func() bool { return sum(t, client) == 42 })
	v.powerButton()
}

// wantConnected asks over a connection that was open all the time.
func wantConnected(t *testing.T, conn *sql.Conn) {
	t.Helper()
	var n int
	if err := conn.QueryRowContext(t.Context(), "SELECT SUM(n) FROM t").Scan(&n); err != nil || n != 42 {
		t.Errorf("a client of before reads %d, %v", n, err)
	}
}

// failing gives a long command that must fail with a sentence.
func (c *control) failing(v *vm, cmd guestapi.Command, id string, args any, says string) {
	c.t.Helper()
	var s guestapi.OperationStatus
	if err := c.ask(cmd, id, args, &s); err != nil {
		c.t.Fatal(err)
	}
	v.until("the failure of "+string(cmd), func() bool {
		err := c.ask(guestapi.CmdStatus, "status", guestapi.StatusArgs{ID: id}, &s)
		return err == nil && s.State != guestapi.StateRunning
	})
	if text, err := json.Marshal(s); err != nil || s.State != guestapi.StateFailed || !strings.Contains(string(text), says) {
		c.t.Errorf("%s ended with %s, %v; want a failure that says %q", cmd, text, err, says)
	}
}
