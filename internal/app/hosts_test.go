package app_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus/natsbus/server"
	"github.com/trove-dbaas/trove/internal/app"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/internal/keyfile"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/tests/dbserver"
)

// host is a state directory of its own at the store of another.
func (d *deployment) host(t *testing.T, master string) config.Config {
	t.Helper()
	cfg := d.cfg
	cfg.State = t.TempDir()
	if master != "" {
		if err := app.StateDir(cfg.State).Make(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(app.StateDir(cfg.State).MasterKey(), []byte(master), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cfg
}

// TestASecondHostNeedsTheMasterKeyAlone starts hosts with the right master key, without one and with another.
func TestASecondHostNeedsTheMasterKeyAlone(t *testing.T) {
	d := newDeployment(t)
	dir := app.StateDir(d.cfg.State).Keys()
	if _, err := server.ReadCA(first(t, d)); err == nil {
		t.Fatal("there is a CA before anything has started")
	}
	ca := makeCA(t)
	if err := os.WriteFile(filepath.Join(dir, "bus-ca.pem"), ca, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "agent-release.pub"), []byte("public\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := app.OpenDeploymentKeys(t.Context(), d.cfg, d.store); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "bus-ca.pem")); !os.IsNotExist(err) {
		t.Errorf("the file that was taken over is still there: %v", err)
	}
	master := read(t, d.master)
	second := d.host(t, master)
	k, err := app.OpenDeploymentKeys(t.Context(), second, d.store)
	if err != nil {
		t.Fatal(err)
	}
	if data, _, err := k.Load("bus-ca.pem"); string(data) != string(ca) || err != nil {
		t.Errorf("the second host has another CA, %v", err)
	}
	if got := read(t, app.StateDir(second.State).AgentKeys()); got != "public\n" {
		t.Errorf("the second host's release keys are %q", got)
	}
	none := d.host(t, "")
	_, err = app.OpenDeploymentKeys(t.Context(), none, d.store)
	if trove.KindOf(err) != trove.KindNotFound || !strings.Contains(trove.MessageOf(err), "Copy the file from a host") {
		t.Errorf("without a master key: %v", err)
	}
	if _, err := os.Stat(app.StateDir(none.State).MasterKey()); !os.IsNotExist(err) {
		t.Errorf("a master key was made that opens nothing: %v", err)
	}
	other := newDeployment(t)
	wrong := d.host(t, read(t, other.master))
	_, err = app.OpenDeploymentKeys(t.Context(), wrong, d.store)
	if trove.KindOf(err) != trove.KindForbidden || !strings.Contains(trove.MessageOf(err), "does not open the keys of this deployment") {
		t.Errorf("with another master key: %v", err)
	}
	if strings.Contains(err.Error(), strings.Fields(master)[1]) || strings.Contains(err.Error(), "PRIVATE") {
		t.Error("the error shows a key")
	}
}

// TestARollBegunOnOneHostIsSeenOnTheOther replaces the CA with two hosts.
func TestARollBegunOnOneHostIsSeenOnTheOther(t *testing.T) {
	d := newDeployment(t)
	if err := os.WriteFile(filepath.Join(app.StateDir(d.cfg.State).Keys(), "bus-ca.pem"), makeCA(t), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.keys(t).RollCA(t.Context(), false); trove.KindOf(err) != trove.KindNotFound {
		t.Errorf("before the service started: %v", err)
	}
	k, err := app.OpenDeploymentKeys(t.Context(), d.cfg, d.store)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.LoadOrMake(t.Context(), "bus.json", func() ([]byte, error) { return []byte("{}"), nil }); err != nil {
		t.Fatal(err)
	}
	second := *d
	second.cfg = d.host(t, read(t, d.master))
	if err := os.Symlink(filepath.Join(d.cfg.State, "store.db"), filepath.Join(second.cfg.State, "store.db")); err != nil {
		t.Fatal(err)
	}
	if began, err := second.keys(t).RollCA(t.Context(), false); !began || err != nil {
		t.Fatalf("began %v, %v", began, err)
	}
	r, err := d.keys(t).CA(t.Context())
	if err != nil || r.Phase != server.CAAnnounced || len(r.CAs) != 2 {
		t.Errorf("the first host sees %+v, %v", r.CAStatus, err)
	}
}

// first opens the keys as the first host does.
func first(t *testing.T, d *deployment) keyfile.Keeper {
	t.Helper()
	k, err := app.OpenDeploymentKeys(t.Context(), d.cfg, d.store)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// makeCA returns the file of a CA as an earlier release kept it.
func makeCA(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	c, err := server.DialController(t.Context(), server.ControllerConfig{
		Keys: keyfile.Dir(dir), Name: "x", Log: slog.New(slog.DiscardHandler), Address: func() (string, error) { return "127.0.0.1:1", nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "bus-ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestBrokersAreFoundInTheStore(t *testing.T) {
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	now := clock.NewManual(at)
	row := func(id string, seen time.Duration) sqlstore.Controller {
		return sqlstore.Controller{
			ID: id, Host: "host-" + id, SeenAt: at.Add(-seen), Clients: []string{"10.0.0." + id + ":4222"}, Control: "192.0.2." + id + ":4222",
			Objects: []string{"https://10.0.0." + id + ":4224"},
		}
	}
	var rows []sqlstore.Controller
	var failure error
	b := app.NewBrokers("2", "host-2", now, func(context.Context) ([]sqlstore.Controller, error) { return rows, failure })
	if _, err := b.Address(); trove.KindOf(err) != trove.KindUnavailable {
		t.Errorf("before any has started: %v", err)
	}
	if _, err := b.Gateways(); trove.KindOf(err) != trove.KindUnavailable {
		t.Errorf("gateways before any has started: %v", err)
	}
	rows = []sqlstore.Controller{row("1", 0), row("2", time.Minute), row("3", 10*time.Minute), row("4", 2*time.Hour)}
	addresses := func(n int) (all []string) {
		for range n {
			a, err := b.Address()
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, a)
		}
		return all
	}
	// Its own first, at the address of this host; the next one after a failure; not those that are away.
	if d := cmp.Diff([]string{"10.0.0.2:4222", "192.0.2.1:4222", "10.0.0.2:4222"}, addresses(3)); d != "" {
		t.Error(d)
	}
	urls, err := b.Gateways()
	if d := cmp.Diff([]string{"https://10.0.0.2:4224", "https://10.0.0.1:4224", "https://10.0.0.3:4224"}, urls); d != "" || err != nil {
		t.Error(err, d)
	}
	failure = errors.New("the store is away")
	if d := cmp.Diff([]string{"192.0.2.1:4222", "10.0.0.2:4222"}, addresses(2)); d != "" {
		t.Errorf("while the store is away: %s", d)
	}
	now.Add(3 * time.Hour) // nobody was heard of: all are tried
	failure = nil
	if got := addresses(4); len(got) != 4 || got[0] == got[1] {
		t.Errorf("tried are %v", got)
	}
}

// TestTheCloudOfAnotherMachineIsNotTaken has two state directories at one database server.
func TestTheCloudOfAnotherMachineIsNotTaken(t *testing.T) {
	server := dbserver.Shared(t, dbserver.PostgreSQL).Database(t)
	st, err := sqlstore.Open(t.Context(), sqlstore.Config{Server: server})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	a, b := config.Default(), config.Default()
	a.State, b.State = t.TempDir(), t.TempDir()
	a.Store.URL, b.Store.URL = "postgresql://x@y/z", "postgresql://x@y/z"
	if err := app.CloudHere(t.Context(), b, st); err != nil {
		t.Errorf("an api before any taskmanager: %v", err)
	}
	for range 2 {
		if err := app.OwnCloud(t.Context(), a, st); err != nil {
			t.Fatal(err)
		}
	}
	err = app.OwnCloud(t.Context(), b, st)
	if trove.KindOf(err) != trove.KindConflict || !strings.Contains(trove.MessageOf(err), a.State) || !strings.Contains(trove.MessageOf(err), "adopt-cloud") {
		t.Errorf("another machine: %v", err)
	}
	if err := app.CloudHere(t.Context(), a, st); err != nil {
		t.Errorf("an api beside the taskmanager: %v", err)
	}
	if err := app.CloudHere(t.Context(), b, st); trove.KindOf(err) != trove.KindConflict || !strings.Contains(trove.MessageOf(err), "trove-api runs there") {
		t.Errorf("an api on another machine: %v", err)
	}
}
