package e2e_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/client"
	deploy "github.com/trove-dbaas/trove/tests/deployment"
)

// query20Hz asks a query every 50 ms until the returned function is called, which says how many failed.
func query20Hz(t testing.TB, db *sql.DB) func() int {
	t.Helper()
	return deploy.Query20Hz(t, db)
}

// killGroup kills the control plane with everything in its process group.
func (d *deployment) killGroup() {
	d.t.Helper()
	data, err := os.ReadFile(filepath.Join(d.state, "trove.pid"))
	if err != nil {
		d.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		d.t.Fatal(err)
	}
	if err := syscall.Kill(-pid, syscall.SIGKILL); err != nil {
		d.t.Fatal(err)
	}
	eventually(d.t, patience, "the killed control plane to be gone", func() bool {
		_, err := d.try("dev", "status", "--state", d.state)
		return err != nil
	})
}

// TestDatabasesOutliveTheControlPlane kills the whole control plane; a client that asks 20 times a second sees no error, and the guest is back
// after the next start, within 5 s if the machine has nothing else to do.
func TestDatabasesOutliveTheControlPlane(t *testing.T) {
	d := sharedDeployment(t)
	i := d.create("outlive-1")
	db := open(t, i, "app", password, "app")
	stop := query20Hz(t, db)
	d.killGroup()
	time.Sleep(time.Second) // the databases alone
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	*shared.d = deployment{state: d.state, listen: d.listen, client: d.client, env: d.env}
	started := time.Now()
	eventually(t, 30*time.Second, "the guest to answer through the API", func() bool {
		_, err := d.client.Databases(t.Context(), i.ID)
		return err == nil
	})
	t.Logf("the guest answered %s after the start", time.Since(started).Round(time.Millisecond))
	if failed := stop(); failed > 0 {
		t.Errorf("%d queries failed", failed)
	}
}

// TestAnAcceptedCreateSurvivesAKill kills the control plane right after creates were accepted; the next start finishes them.
func TestAnAcceptedCreateSurvivesAKill(t *testing.T) {
	d := sharedDeployment(t)
	var ids []string
	for _, name := range []string{"kill-1", "kill-2", "kill-3"} {
		out, err := d.tryInput(password+"\n", "instance", "create", name, "--flavor", "db.tiny", "--size", "1", "--database", "app",
			"--user", "app", "--password-file", "-", "-f", "value", "-c", "id")
		if err != nil {
			t.Fatal(err)
		}
		id := strings.TrimSpace(out)
		ids = append(ids, id)
		t.Cleanup(func() { d.remove(id) })
	}
	d.killGroup()
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	*shared.d = deployment{state: d.state, listen: d.listen, client: d.client, env: d.env}
	for _, id := range ids {
		eventually(t, 45*time.Second, "instance "+id+" to be finished by the next control plane", func() bool {
			i, err := d.client.Instance(t.Context(), id)
			return err == nil && i.Status == "ACTIVE"
		})
		if err := open(t, d.instance(id), "app", password, "app").PingContext(t.Context()); err != nil {
			t.Errorf("login: %v\n%s", err, d.log())
		}
	}
}

// TestADeleteSurvivesAKill is the same for a deletion.
func TestADeleteSurvivesAKill(t *testing.T) {
	d := sharedDeployment(t)
	i := d.create("kill-delete-1")
	if err := d.client.DeleteInstance(t.Context(), i.ID); err != nil {
		t.Fatal(err)
	}
	d.killGroup()
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	*shared.d = deployment{state: d.state, listen: d.listen, client: d.client, env: d.env}
	eventually(t, 30*time.Second, "the instance to be gone", func() bool {
		_, err := d.client.Instance(t.Context(), i.ID)
		return client.IsNotFound(err)
	})
	if _, err := os.Stat(filepath.Join(d.state, "instances", i.ID)); !os.IsNotExist(err) {
		t.Errorf("the instance's directory is left: %v", err)
	}
}
