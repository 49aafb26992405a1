package e2e_test

import (
	"context"
	"database/sql"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/tests/hostcheck"
	"github.com/trove-dbaas/trove/tests/outside"
)

// TestPublicInstance connects from another machine, over IPv4 and IPv6, to an instance that is public, changes who may while it does, and deletes it.
func TestPublicInstance(t *testing.T) {
	client := outside.New(t)
	forwarded := forwards(t, client)
	before := hostcheck.Take(t.Context(), t)
	t.Setenv("TROVE_LOCAL_PUBLIC_PORTS", "21800-21809")
	d, err := newDeployment(filepath.Join(repository, "var", "e2e-public"))
	if err != nil {
		t.Fatal(err)
	}
	d.t = t
	t.Cleanup(func() { d.destroy(t, before) })
	range4, range6 := client.Client4.String(), netip.PrefixFrom(client.Client6, 64).Masked().String()
	i := d.createKept("public", "--is-public", "--allowed-cidr", range4+","+range6)
	v4, v6 := publicAddress(t, i, netip.Addr.Is4), publicAddress(t, i, netip.Addr.Is6)
	if shown := d.trove("instance", "show", i.ID, "-c", "addresses", "-f", "value"); !strings.Contains(shown, v4) || !strings.Contains(shown, v6) {
		t.Errorf("instance show has %q, want %s and %s in it", shown, v4, v6)
	}
	for address, from := range map[string]netip.Addr{v4: client.Client4, v6: client.Client6} {
		db := openFrom(t, client, address)
		if user := queryString(t, db, "SELECT USER()"); user != "app@"+from.String() {
			t.Errorf("connected to %s the database sees %s, want the client's address %s", address, user, from)
		}
	}

	// Who stays allowed notices nothing of a change, nor of a control plane that is away.
	stays := openFrom(t, client, v4)
	stays.SetMaxOpenConns(1)
	stop := query20Hz(t, stays)
	d.trove("instance", "update", i.ID, "--allowed-cidr", client.Client4.String()+"/24,2001:db8::/32", "--wait")
	refusedFrom(t, client, v6)
	d.trove("dev", "stop", "--state", d.state)
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	if failed := stop(); failed > 0 {
		t.Errorf("%d queries of a client that stayed allowed failed", failed)
	}

	d.trove("instance", "update", i.ID, "--allowed-cidr", range6, "--wait")
	refusedFrom(t, client, v4)
	queryString(t, openFrom(t, client, v6), "SELECT 1")
	d.trove("instance", "update", i.ID, "--is-private", "--allowed-cidr", "0.0.0.0/0,::/0", "--wait")
	refusedFrom(t, client, v4)
	refusedFrom(t, client, v6)
	if now := d.instance(i.ID); len(now.Addresses) != 1 || now.Addresses[0].Type != "private" {
		t.Errorf("addresses of an instance that is private: %+v", now.Addresses)
	}
	d.trove("instance", "update", i.ID, "--is-public", "--wait")
	if again := publicAddress(t, d.instance(i.ID), netip.Addr.Is4); again != v4 {
		t.Errorf("public again at %s, before at %s", again, v4)
	}
	queryString(t, openFrom(t, client, v4), "SELECT 1")
	d.remove(i.ID)
	refusedFrom(t, client, v4)
	if now := forwards(t, client); now != forwarded {
		t.Errorf("forwarding from %s is %s after the last public instance, and was %s before the first", client.Device, now, forwarded)
	}
	if _, err := os.Readlink("/run/trove-public/port-" + v4[strings.LastIndex(v4, ":")+1:]); !os.IsNotExist(err) {
		t.Errorf("the port of the instance is still taken: %v", err)
	}
}

// forwards returns "1" if what comes from the machine is forwarded, as a router does in any case.
func forwards(t testing.TB, m outside.Machine) string {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + m.Device + "/forwarding")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// publicAddress returns where clients of a family connect to.
func publicAddress(t testing.TB, i wire.Instance, family func(netip.Addr) bool) string {
	t.Helper()
	for _, a := range i.Addresses {
		if ip, err := netip.ParseAddr(a.Address); err == nil && a.Type == "public" && family(ip) {
			return net.JoinHostPort(a.Address, strconv.Itoa(a.Port))
		}
	}
	t.Fatalf("no public address among %+v", i.Addresses)
	return ""
}

// openFrom connects as the user app from another machine.
func openFrom(t testing.TB, m outside.Machine, address string) *sql.DB {
	t.Helper()
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd, cfg.Net, cfg.Addr, cfg.DBName = "app", password, "tcp", address, "app"
	cfg.TLSConfig = "skip-verify"
	cfg.Timeout, cfg.ReadTimeout, cfg.WriteTimeout = 10*time.Second, 10*time.Second, 10*time.Second
	cfg.DialFunc = func(ctx context.Context, _, address string) (net.Conn, error) { return m.Dial(ctx, address) }
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func refusedFrom(t testing.TB, m outside.Machine, address string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if c, err := m.Dial(ctx, address); err == nil {
		_ = c.Close()
		t.Errorf("%s let a client in that is not allowed", address)
	}
}
