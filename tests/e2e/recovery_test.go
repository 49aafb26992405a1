package e2e_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/tests/hostcheck"
)

// inside returns the process ids in an instance's sandbox.
func (d *deployment) inside(id string) []string {
	d.t.Helper()
	for _, pattern := range []string{"/sys/fs/cgroup/trove-", "/sys/fs/cgroup/pids/trove-"} {
		data, err := os.ReadFile(filepath.Join(pattern+d.hash(), id, "cgroup.procs"))
		if err == nil {
			all := strings.Fields(string(data))
			slices.Sort(all)
			return all
		}
	}
	d.t.Fatalf("instance %s has no control group", id)
	return nil
}

// TestTheControllersDiskIsLost deletes the state directory (store, keys, configuration, log) under databases that are asked 20 times a second, and restores
// it from an export: none of them is restarted or misses a query, what is younger than the export goes on and is told of, what is older and gone
// says so.
func TestTheControllersDiskIsLost(t *testing.T) {
	before := hostcheck.Take(t.Context(), t)
	state, disk := filepath.Join(repository, "var", "e2e-lost"), filepath.Join(repository, "var", "e2e-lost-disk")
	t.Setenv("TROVE_LOCAL_DIR", disk)
	key, export, exports := filepath.Join(t.TempDir(), "recovery.key"), filepath.Join(t.TempDir(), "export"), t.TempDir()
	recipient := strings.TrimSpace((&deployment{t: t}).trove("manage", "recovery-key", "generate", "--output", key))
	t.Setenv("TROVE_RECOVERY_EXPORT_DIR", exports)
	t.Setenv("TROVE_RECOVERY_RECIPIENTS", "["+recipient+"]")
	d, err := newDeployment(state)
	if err != nil {
		t.Fatal(err)
	}
	d.t = t
	hash, destroyed := d.hash(), false
	t.Cleanup(func() {
		if !destroyed {
			if out, err := d.try("dev", "destroy", "--state", state, "--force"); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		}
	})
	var kept []wire.Instance
	for _, name := range []string{"lost-1", "lost-2"} {
		i := d.createKept(name)
		db := open(t, i, "app", password, "app")
		mustExec(t, db, "CREATE TABLE t (words TEXT)")
		mustExec(t, db, "INSERT INTO t VALUES (?)", name)
		kept = append(kept, i)
	}
	gone := d.createKept("lost-gone")
	eventually(t, patience, "the first export to be written by itself", func() bool {
		all, _ := filepath.Glob(filepath.Join(exports, "trove-"+hash+"-*.trove-export"))
		return len(all) == 1
	})
	d.trove("manage", "export", "--state", state, "--output", export)
	later := d.createKept("lost-later")
	d.remove(gone.ID)

	var stops []func() int
	processes := map[string][]string{}
	for _, i := range append(slices.Clone(kept), later) {
		stops = append(stops, query20Hz(t, open(t, i, "app", password, "app")))
		processes[i.ID] = d.inside(i.ID)
	}
	d.killGroup()
	if err := os.RemoveAll(state); err != nil {
		t.Fatal(err)
	}
	d.restore(export, key)
	started := time.Now()
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	for _, i := range kept {
		eventually(t, patience, "instance "+i.Name+" to be adopted", func() bool {
			now := d.instance(i.ID)
			_, err := d.client.Users(t.Context(), i.ID)
			return err == nil && now.Status == "ACTIVE" && now.OperatingStatus == "HEALTHY"
		})
	}
	t.Logf("all were adopted %s after the start", time.Since(started).Round(time.Millisecond))
	eventually(t, patience, "the instance that was deleted meanwhile to say so", func() bool {
		i := d.instance(gone.ID)
		return i.Status == "ERROR" && i.Fault != nil && strings.Contains(i.Fault.Message, "data volume")
	})
	time.Sleep(3 * time.Second) // the unknown one is looked at, too
	for n, stop := range stops {
		if failed := stop(); failed > 0 {
			t.Errorf("%d queries to database %d failed", failed, n+1)
		}
	}
	for id, want := range processes {
		if diff := cmp.Diff(want, d.inside(id)); diff != "" {
			t.Errorf("processes of instance %s:\n%s", id, diff)
		}
	}
	if d.hash() != hash {
		t.Errorf("the deployment is called %s now, it was %s", d.hash(), hash)
	}
	d.lifeAfterRestore(kept, later)
	destroyed = true
	d.destroy(t, before)
	if _, err := os.Stat(disk); !os.IsNotExist(err) {
		t.Errorf("the cloud's directory is left: %v", err)
	}
}

// restore restores the state directory, after tries that must change nothing.
func (d *deployment) restore(export, key string) {
	d.t.Helper()
	other := filepath.Join(d.t.TempDir(), "other.key")
	d.trove("manage", "recovery-key", "generate", "--output", other)
	if _, err := d.try("manage", "restore", export, "--identity", other, "--state", d.state); err == nil || !strings.Contains(err.Error(), "was not made for this") {
		d.t.Errorf("restore with another key: %v", err)
	}
	if _, err := d.try("manage", "restore", export, "--identity", key, "--state", d.state+"-elsewhere"); err == nil || !strings.Contains(err.Error(), "--elsewhere") {
		d.t.Errorf("restore to another path: %v", err)
	}
	for _, dir := range []string{d.state, d.state + "-elsewhere"} {
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			d.t.Errorf("%s was made by a restore that failed: %v", dir, err)
		}
	}
	if out := d.trove("manage", "export", "--inspect", export, "--identity", key); !strings.Contains(out, "state/keys/master.key") || !strings.Contains(out, "instances   3") {
		d.t.Errorf("the export is shown as:\n%s", out)
	}
	d.trove("manage", "restore", export, "--identity", key, "--state", d.state)
	d.trove("manage", "restore", export, "--identity", key, "--state", d.state) // again: nothing is done
}

// lifeAfterRestore uses the restored service, and finishes the restore.
func (d *deployment) lifeAfterRestore(kept []wire.Instance, later wire.Instance) {
	t := d.t
	t.Helper()
	if out := d.trove("manage", "restore", "--status", "--state", d.state); !strings.Contains(out, "unknown  "+later.ID+"  lost-later") || !strings.Contains(out, "gone ") {
		t.Errorf("restore --status:\n%s", out)
	}
	if !strings.Contains(d.log(), later.ID) {
		t.Errorf("the log does not tell of %s:\n%s", later.ID, d.log())
	}
	d.trove("instance", "restart", kept[0].ID, "--wait")
	d.trove("instance", "resize", "volume", kept[1].ID, "2", "--wait")
	for _, i := range kept {
		if got := queryString(t, open(t, i, "app", password, "app"), "SELECT words FROM t"); got != i.Name {
			t.Errorf("%s says %q", i.Name, got)
		}
	}
	next := d.createKept("lost-next")
	if next.Addresses[0].Address == later.Addresses[0].Address {
		t.Errorf("the new instance got the address of the unknown one")
	}
	if err := open(t, later, "app", password, "app").PingContext(t.Context()); err != nil {
		t.Errorf("the unknown instance does not answer: %v", err)
	}
	d.trove("manage", "restore", "--finish", "--state", d.state)
	if out, err := d.try("manage", "restore", "--status", "--state", d.state); err == nil {
		t.Errorf("restore --status after --finish:\n%s", out)
	}
}

// TestTheOnlyDiskIsLost deletes a state directory that holds everything: store, keys, images and volumes. After the restore the database still is not restarted
// and misses no query, and its volume, which has no name any more, can be saved.
func TestTheOnlyDiskIsLost(t *testing.T) {
	state := filepath.Join(repository, "var", "e2e-only")
	d, err := newDeployment(state)
	if err != nil {
		t.Fatal(err)
	}
	d.t = t
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the service's log ends:\n%s", d.log())
		}
		if out, err := d.try("dev", "destroy", "--state", state, "--force"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	key, export := filepath.Join(t.TempDir(), "recovery.key"), filepath.Join(t.TempDir(), "export")
	recipient := strings.TrimSpace(d.trove("manage", "recovery-key", "generate", "--output", key))
	i := d.createKept("only-1")
	db := open(t, i, "app", password, "app")
	mustExec(t, db, "CREATE TABLE t (words TEXT)")
	d.trove("manage", "export", "--state", state, "--output", export, "--recipient", recipient)
	mustExec(t, db, "INSERT INTO t VALUES ('after the export')")
	stop, before := query20Hz(t, db), d.inside(i.ID)
	d.killGroup()
	if err := os.RemoveAll(state); err != nil {
		t.Fatal(err)
	}
	d.trove("manage", "restore", export, "--identity", key, "--state", state)
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the instance to say that its volume is gone", func() bool {
		now := d.instance(i.ID)
		return now.Fault != nil && strings.Contains(now.Fault.Message, "data volume")
	})
	mustExec(t, db, "INSERT INTO t VALUES ('after the restore')")
	if failed := stop(); failed > 0 {
		t.Errorf("%d queries failed", failed)
	}
	if diff := cmp.Diff(before, d.inside(i.ID)); diff != "" {
		t.Errorf("processes of the instance:\n%s", diff)
	}
	d.trove("dev", "stop", "--state", state)
	if out, err := d.try("image", "build", "--state", state, "--datastore", "mariadb", "--datastore-version", "10.11"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d.trove("manage", "restore", "--rescue-volumes", "--state", state)
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "the database to be back", func() bool {
		now := d.instance(i.ID)
		return now.Status == "ACTIVE" && now.OperatingStatus == "HEALTHY"
	})
	if got := queryString(t, open(t, i, "app", password, "app"), "SELECT GROUP_CONCAT(words ORDER BY words) FROM t"); got != "after the export,after the restore" {
		t.Errorf("the saved volume has %q", got)
	}
}
