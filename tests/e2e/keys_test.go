package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/tests/hostcheck"
)

// shortLives make the lives of credentials and certificates short enough to see several of them pass.
const shortLives = `bus:
  credential_life: 8s
  certificate_life: 8s
  ca_life: 10m
  port: %d
  former_ports: [%s]
`

// agentOf returns the process of an instance's guest agent.
func agentOf(t *testing.T, instance string) int {
	t.Helper()
	files, _ := filepath.Glob("/proc/[0-9]*/cgroup")
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil || !strings.Contains(string(data), instance) {
			continue
		}
		cmdline, err := os.ReadFile(filepath.Join(filepath.Dir(f), "cmdline"))
		args := strings.Split(strings.TrimRight(string(cmdline), "\x00"), "\x00")
		if err != nil || filepath.Base(args[0]) != "trove-guestagent" || len(args) > 1 && args[1] == "init" {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
	t.Fatalf("no agent of %s runs", instance)
	return 0
}

func (d *deployment) writeConfig(t *testing.T, port int, former string) {
	t.Helper()
	if err := os.MkdirAll(d.state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.state, "trove.yaml"), fmt.Appendf(nil, shortLives, port, former), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (d *deployment) manage(t *testing.T, args ...string) string {
	t.Helper()
	return d.trove(append([]string{"manage", "--state", d.state}, args...)...)
}

// commanded waits until the guest of an instance answers a command.
func (d *deployment) commanded(t *testing.T, what, id string) {
	t.Helper()
	eventually(t, 30*time.Second, what, func() bool {
		_, err := d.client.Databases(t.Context(), id)
		return err == nil
	})
}

// TestSteppedClock has credentials, server certificates and the CA of the bus replaced, a guest asleep meanwhile for longer than its credential lives, the
// bus at another port, and the master key replaced: no query fails and no guest is lost.
func TestSteppedClock(t *testing.T) {
	before := hostcheck.Take(t.Context(), t)
	d := &deployment{t: t, state: filepath.Join(repository, "var", "e2e-keys")}
	d.writeConfig(t, 4222, "")
	made, err := newDeployment(d.state)
	if err != nil {
		t.Fatal(err)
	}
	made.t = t
	d = made
	t.Cleanup(func() { d.destroy(t, before) })
	awake, asleep := d.createKept("clock-1"), d.createKept("clock-2")
	stopAwake, stopAsleep := query20Hz(t, open(t, awake, "app", password, "app")), query20Hz(t, open(t, asleep, "app", password, "app"))
	began := time.Now()

	agent := agentOf(t, asleep.ID)
	if err := syscall.Kill(agent, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	slept := time.Now()
	t.Cleanup(func() { _ = syscall.Kill(agent, syscall.SIGCONT) })
	d.manage(t, "ca", "roll")
	eventually(t, 60*time.Second, "the new CA to sign and the guest that sleeps to be waited for", func() bool {
		out := d.manage(t, "ca", "status")
		return strings.Contains(out, "phase: switched") && strings.Contains(out, "waiting for 1: "+asleep.ID)
	})
	t.Logf("the new CA signs %s after the roll began", time.Since(slept).Round(100*time.Millisecond))
	d.manage(t, "ca", "roll", "--force")
	if out := d.manage(t, "ca", "status"); !strings.Contains(out, "phase: stable") || strings.Count(out, "\nCA ") != 1 {
		t.Errorf("after the roll:\n%s", out)
	}
	d.commanded(t, "the guest that was awake to answer", awake.ID)
	eventually(t, 30*time.Second, "the credential of the guest that sleeps to have expired", func() bool { return time.Since(slept) > 12*time.Second })
	if err := syscall.Kill(agent, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	woke := time.Now()
	d.commanded(t, "the guest that slept to answer", asleep.ID)
	t.Logf("the guest that slept %s answered %s after it woke", woke.Sub(slept).Round(time.Second), time.Since(woke).Round(100*time.Millisecond))

	// The bus moves to another port; guests are told on the old one.
	d.trove("dev", "stop", "--state", d.state)
	d.writeConfig(t, 4322, "4222")
	d.restart(t)
	for _, id := range []string{awake.ID, asleep.ID} {
		d.commanded(t, "guest "+id+" to answer after the move", id)
	}
	eventually(t, 30*time.Second, "both guests to know the new port", func() bool {
		return strings.Contains(d.manage(t, "ca", "status"), "guests: 2, of which 2 know")
	})
	d.trove("dev", "stop", "--state", d.state)
	d.writeConfig(t, 4322, "")
	d.restart(t)
	for _, id := range []string{awake.ID, asleep.ID} {
		d.commanded(t, "guest "+id+" to answer at the new port alone", id)
	}

	if out := d.manage(t, "key", "rotate"); !strings.Contains(out, "a new key seals") {
		t.Error(out)
	}
	if out := d.manage(t, "key", "status"); strings.Contains(out, "are not sealed anew") || !strings.Contains(out, ", 0 texts\n") {
		t.Errorf("after the rotation:\n%s", out)
	}
	third := d.createKept("clock-3") // with boot data of now
	d.commanded(t, "a new guest to answer", third.ID)
	log, err := os.ReadFile(filepath.Join(d.state, "log", "trove.log"))
	if err != nil {
		t.Fatal(err)
	}
	renewals := strings.Count(string(log), `msg="guest credential was renewed" instance=`+awake.ID)
	t.Logf("%d renewals of the guest that was awake in %s", renewals, time.Since(began).Round(time.Second))
	if renewals < 3 {
		t.Errorf("its credential was renewed %d times:\n%s", renewals, d.log())
	}
	if strings.Contains(string(log), "alarm:") {
		t.Error("there was an alarm")
	}
	if failed := stopAwake() + stopAsleep(); failed > 0 {
		t.Errorf("%d queries failed", failed)
	}
}

// restart starts the service anew with what its configuration says now.
func (d *deployment) restart(t *testing.T) {
	t.Helper()
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
}
