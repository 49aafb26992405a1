package e2e_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// setting returns the value of a unit's line.
func setting(t testing.TB, unit, key string) string {
	t.Helper()
	for line := range strings.Lines(unit) {
		if value, ok := strings.CutPrefix(line, key+"="); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("the unit has no %s", key)
	return ""
}

// runUnit does what systemd does with the unit: it starts the program with the unit's rights, waits until it says that it is ready, and returns how to stop
// it as KillMode=process does.
func (d *deployment) runUnit(unit string) (stop func()) {
	d.t.Helper()
	socket := filepath.Join(d.t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	denied := strings.TrimPrefix(setting(d.t, unit, "CapabilityBoundingSet"), "~")
	bounds := "-" + strings.ReplaceAll(strings.ReplaceAll(strings.ToLower(denied), "cap_", ""), " ", ",-")
	args := []string{"--no-new-privs", "--bounding-set", bounds, "--"}
	log, err := os.OpenFile(filepath.Join(d.state, "log", "trove.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("setpriv", append(args, strings.Fields(setting(d.t, unit, "ExecStart"))...)...)
	// What systemd gives, and the address of this test.
	cmd.Env = []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LANG=C.UTF-8", "NOTIFY_SOCKET=" + socket, "TROVE_API_LISTEN=" + d.listen,
		"TROVE_API_RATE_LIMIT=0", "TROVE_QUOTA_INSTANCES=100", "TROVE_QUOTA_VOLUMES=400",
	}
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	if err := l.SetReadDeadline(time.Now().Add(patience)); err != nil {
		d.t.Fatal(err)
	}
	said := make([]byte, 64)
	n, err := l.Read(said)
	if err != nil || string(said[:n]) != "READY=1" {
		d.t.Fatalf("the service said %q: %v\n%s", said[:n], err, d.log())
	}
	return func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			d.t.Fatal(err)
		}
		select {
		case err := <-done:
			if err != nil {
				d.t.Errorf("the service ended with %v\n%s", err, d.log())
			}
		case <-time.After(patience):
			d.t.Errorf("the service does not end\n%s", d.log())
		}
	}
}

// TestTheUnitsRightsAreEnough installs the unit and runs the service with the rights that it leaves, under a narrow umask: instances can be made, and
// databases outlive a stop of the unit.
func TestTheUnitsRightsAreEnough(t *testing.T) {
	d := sharedDeployment(t)
	root := t.TempDir()
	d.trove("service", "install", "--root", root, "--state", d.state)
	unit, err := os.ReadFile(filepath.Join(root, "etc/systemd/system/trove.service"))
	if err != nil {
		t.Fatal(err)
	}
	if want := binary("trove") + " serve api taskmanager conductor --state " + d.state; setting(t, string(unit), "ExecStart") != want {
		t.Errorf("the unit runs %q, want %q", setting(t, string(unit), "ExecStart"), want)
	}
	d.trove("dev", "stop", "--state", d.state)
	old := syscall.Umask(0o077)
	stop := d.runUnit(string(unit))
	syscall.Umask(old)
	i := d.create("unit-1")
	db := open(t, i, "app", password, "app")
	mustExec(t, db, "CREATE TABLE t (a INT)")
	queries := query20Hz(t, db)
	stop()
	stop = d.runUnit(string(unit))
	if failed := queries(); failed > 0 {
		t.Errorf("%d queries failed while the unit was stopped and started", failed)
	}
	d.trove("instance", "restart", i.ID, "--wait")
	stop()
	d.startAgain()
	if out, err := d.try("service", "status", "--root", root); err == nil || !strings.Contains(out, "trove.service: installed") {
		t.Errorf("service status: %v\n%s", err, out)
	}
	d.trove("service", "uninstall", "--root", root)
	if left, _ := filepath.Glob(filepath.Join(root, "etc/systemd/system/*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if out, err := d.try("service", "status", "--root", root); err == nil {
		t.Errorf("service status after uninstall: %s", out)
	}
}
