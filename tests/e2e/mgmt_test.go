package e2e_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/trove-dbaas/trove/api/wire"
)

// TestAdministratorsReachMachineAndEngine: what the mgmt calls do on a real machine. The rows outlive a stop of the engine, a reboot and a rebuild, the addresses
// stay, and a neighbour notices nothing.
func TestAdministratorsReachMachineAndEngine(t *testing.T) {
	d := sharedDeployment(t)
	admin := d.admin()
	i := d.create("mgmt-1")
	mustExec(t, open(t, i, "app", password, "app"), "CREATE TABLE t (a INT)")
	mustExec(t, open(t, i, "app", password, "app"), "INSERT INTO t VALUES (42)")
	other := d.create("mgmt-other")
	stop := query20Hz(t, open(t, other, "app", password, "app"))

	admin.trove("mgmt", "ping", i.ID)
	var hardware wire.Hardware
	if err := json.Unmarshal([]byte(admin.trove("mgmt", "hwinfo", i.ID, "-f", "json")), &hardware); err != nil {
		t.Fatal(err)
	}
	if flavor, err := d.client.Flavors(t.Context()); err != nil || hardware.NumCPUs < 1 || hardware.MemTotal < int64(flavor[0].RAM)<<10 {
		t.Errorf("%+v, %v", hardware, err)
	}
	if _, err := admin.try("mgmt", "migrate", i.ID); err == nil || !strings.Contains(err.Error(), "one host") {
		t.Errorf("migrate: %v", err)
	}

	admin.trove("mgmt", "stop", i.ID, "--wait")
	if now := d.instance(i.ID); now.Status != "ACTIVE" || now.OperatingStatus != "SHUTDOWN" || d.sandboxProcesses(i.ID) == 0 {
		t.Errorf("after the stop: status %s %s, %d control groups", now.Status, now.OperatingStatus, d.sandboxProcesses(i.ID))
	}
	if err := open(t, i, "app", password, "app").PingContext(t.Context()); err == nil {
		t.Error("the database of an instance that was stopped answers")
	}
	image := admin.trove("datastore", "version", "show", *i.Datastore.Type, *i.Datastore.Version, "-c", "image", "-f", "value")
	for _, action := range [][]string{{"instance", "restart", i.ID}, {"mgmt", "reboot", i.ID}, {"mgmt", "rebuild", i.ID, strings.TrimSpace(image)}} {
		by := admin
		if action[0] == "instance" {
			by = d
		}
		by.trove(append(action, "--wait")...)
		now := d.instance(i.ID)
		if now.Status != "ACTIVE" || now.OperatingStatus != "HEALTHY" || now.Fault != nil || fmt.Sprint(now.Addresses) != fmt.Sprint(i.Addresses) {
			t.Errorf("after %v: %+v", action, now)
		}
		if got := queryString(t, open(t, now, "app", password, "app"), "SELECT a FROM t"); got != "42" {
			t.Errorf("after %v: read %s", action, got)
		}
	}
	if failed := stop(); failed > 0 {
		t.Errorf("%d queries of the neighbour failed", failed)
	}
}

// plain connects without TLS.
func plain(t *testing.T, i wire.Instance) error {
	t.Helper()
	c := mysql.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr, c.DBName, c.Logger = "app", password, "tcp", i.Addresses[0].Address+":3306", "app", &mysql.NopLogger{}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := connector.Connect(t.Context())
	if err == nil {
		err = conn.Close()
	}
	return err
}

// TestTLSOfAnInstance: enforced keeps clients without TLS out at once, and off lets nobody use it after a restart.
func TestTLSOfAnInstance(t *testing.T) {
	d := sharedDeployment(t)
	i := d.create("tls-1")
	if err := plain(t, i); err != nil {
		t.Fatalf("a client without TLS: %v", err)
	}
	d.trove("ssl", "enable", i.ID, "--mode", "enforced")
	if err := plain(t, i); err == nil {
		t.Error("a client without TLS came in")
	}
	if err := open(t, i, "app", password, "app").PingContext(t.Context()); err != nil {
		t.Errorf("a client with TLS: %v", err)
	}
	if err := verifying(t, i, d.trove("ssl", "ca", i.ID)).PingContext(t.Context()); err != nil { // who names no certificate gets the service's
		t.Errorf("a client that verifies: %v", err)
	}
	d.trove("ssl", "disable", i.ID)
	if now := d.instance(i.ID); now.Status != "RESTART_REQUIRED" {
		t.Errorf("status %s", now.Status)
	}
	d.trove("instance", "restart", i.ID, "--wait")
	if err := plain(t, i); err != nil {
		t.Errorf("a client without TLS, which is off: %v", err)
	}
	if got := d.trove("ssl", "show", i.ID, "-c", "status", "-f", "value"); strings.TrimSpace(got) != "off" {
		t.Errorf("it is %s", got)
	}
	d.trove("ssl", "rollback", i.ID)
	d.trove("instance", "restart", i.ID, "--wait")
	eventually(t, patience, "clients with TLS to come in", func() bool { return open(t, i, "app", password, "app").PingContext(t.Context()) == nil })
	if err := plain(t, i); err == nil {
		t.Error("after the rollback a client without TLS came in")
	}
}
