package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
)

// restartControlPlane kills the shared deployment's control plane and starts the next one.
func (d *deployment) restartControlPlane() {
	d.t.Helper()
	d.killGroup()
	if err := d.start(); err != nil {
		d.t.Fatal(err)
	}
	*shared.d = deployment{state: d.state, listen: d.listen, client: d.client, env: d.env}
}

// sandboxes returns how many processes the instance has on this machine.
func (d *deployment) sandboxProcesses(id string) int {
	d.t.Helper()
	groups, err := filepath.Glob("/sys/fs/cgroup/pids/trove-*/" + id + "/cgroup.procs")
	if err != nil {
		d.t.Fatal(err)
	}
	if more, _ := filepath.Glob("/sys/fs/cgroup/trove-*/" + id + "/cgroup.procs"); len(more) > 0 {
		groups = append(groups, more...)
	}
	return len(groups)
}

func (d *deployment) expectStopped(id string) wire.Instance {
	d.t.Helper()
	i := d.instance(id)
	if i.Status != "SHUTDOWN" || i.OperatingStatus != "SHUTDOWN" || i.Fault != nil {
		d.t.Errorf("status %s %s, fault %+v", i.Status, i.OperatingStatus, i.Fault)
	}
	if n := d.sandboxProcesses(id); n > 0 {
		d.t.Errorf("there is a control group of the stopped instance")
	}
	return i
}

// TestStopAndStart: a stopped instance has no process, stays so under another control plane, grows offline and is back with its data and its address
// when it is started.
func TestStopAndStart(t *testing.T) {
	d := sharedDeployment(t)
	i := d.create("stop-1")
	db := open(t, i, "app", password, "app")
	mustExec(t, db, "CREATE TABLE t (a INT)")
	mustExec(t, db, "INSERT INTO t VALUES (42)")
	other := d.create("stop-other")
	stop := query20Hz(t, open(t, other, "app", password, "app"))
	d.trove("instance", "stop", i.ID, "--wait")
	d.expectStopped(i.ID)
	if log := d.mariadbLog(i.ID); !strings.Contains(log, "Shutdown complete") {
		t.Errorf("the engine did not end cleanly; its log ends:\n%s", log)
	}
	if list := d.trove("instance", "list", "-f", "value", "-c", "name", "-c", "status", "-c", "operating status"); !strings.Contains(list, fmt.Sprintf("stop-1 %[1]s %[1]s", "SHUTDOWN")) {
		t.Errorf("the list is\n%s", list)
	}
	for _, refused := range [][]string{{"instance", "restart", i.ID}, {"database", "list", i.ID}} {
		if _, err := d.try(refused...); err == nil || !strings.Contains(err.Error(), "start it first") {
			t.Errorf("%v: %v", refused, err)
		}
	}
	d.trove("instance", "resize", "volume", i.ID, "2", "--wait")
	d.restartControlPlane()
	// Long enough for the reconcilers to look.
	time.Sleep(20 * time.Second)
	d.expectStopped(i.ID)
	began := time.Now()
	d.trove("instance", "start", i.ID, "--wait")
	t.Logf("started in %s", time.Since(began).Round(time.Millisecond))
	started := d.instance(i.ID)
	if started.Status != "ACTIVE" || started.OperatingStatus != "HEALTHY" || started.Volume.Size != 2 || fmt.Sprint(started.Addresses) != fmt.Sprint(i.Addresses) {
		t.Errorf("started: %+v", started)
	}
	if got := queryString(t, open(t, started, "app", password, "app"), "SELECT a FROM t"); got != "42" {
		t.Errorf("read %s", got)
	}
	if failed := stop(); failed > 0 {
		t.Errorf("%d queries of the neighbour failed", failed)
	}
}

// mariadbLog returns the end of what the instance's engine has written to its log.
func (d *deployment) mariadbLog(id string) string {
	d.t.Helper()
	files, err := filepath.Glob("/run/trove-*/i/" + id + "/data/mysql-log/error.log")
	if err != nil || len(files) != 1 {
		d.t.Fatalf("the engine's log is among %v, %v", files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		d.t.Fatal(err)
	}
	return string(data[max(0, len(data)-4000):])
}

// TestAStopSurvivesAKill kills the control plane in the middle of a stop, and of a start.
func TestAStopSurvivesAKill(t *testing.T) {
	d := sharedDeployment(t)
	i := d.create("stop-kill-1")
	if err := d.client.StopInstance(t.Context(), i.ID); err != nil {
		t.Fatal(err)
	}
	d.restartControlPlane()
	eventually(t, patience, "the instance to be stopped", func() bool {
		i, err := d.client.Instance(t.Context(), i.ID)
		return err == nil && i.Status == "SHUTDOWN"
	})
	d.expectStopped(i.ID)
	if err := d.client.StartInstance(t.Context(), i.ID); err != nil {
		t.Fatal(err)
	}
	d.restartControlPlane()
	eventually(t, patience, "the instance to be started", func() bool {
		i, err := d.client.Instance(t.Context(), i.ID)
		return err == nil && i.Status == "ACTIVE" && i.OperatingStatus == "HEALTHY"
	})
	if err := open(t, i, "app", password, "app").PingContext(t.Context()); err != nil {
		t.Errorf("login: %v", err)
	}
}

// TestDeleteOfAStoppedInstance needs no guest.
func TestDeleteOfAStoppedInstance(t *testing.T) {
	d := sharedDeployment(t)
	i := d.create("stop-delete-1")
	d.trove("instance", "stop", i.ID, "--wait")
	began := time.Now()
	d.trove("instance", "delete", i.ID, "--wait")
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
	if _, err := d.client.Instance(t.Context(), i.ID); !client.IsNotFound(err) {
		t.Errorf("after delete: %v", err)
	}
}
