package e2e_test

import (
	"database/sql"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/client"
)

// TestCreatedMeansAClientCanConnect is the first promise: when create --wait returns, database and user are there.
func TestCreatedMeansAClientCanConnect(t *testing.T) {
	d := sharedDeployment(t)
	i := d.create("create-1")
	if i.Status != "ACTIVE" || i.OperatingStatus != "HEALTHY" {
		t.Fatalf("status %s, operating status %s", i.Status, i.OperatingStatus)
	}
	db := open(t, i, "app", password, "app")
	mustExec(t, db, "CREATE TABLE t (a INT PRIMARY KEY)")
	mustExec(t, db, "INSERT INTO t VALUES (7)")
	if got := queryString(t, db, "SELECT a FROM t"); got != "7" {
		t.Fatalf("read %s", got)
	}
	if got := queryString(t, db, "SELECT @@version"); !strings.HasPrefix(got, "10.11.") {
		t.Errorf("the server is %s", got)
	}
	if got := queryString(t, db, "SELECT VARIABLE_VALUE FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME='SSL_VERSION'"); got != "TLSv1.3" {
		t.Errorf("the connection's encryption is %q", got)
	}
	assertUserIsNobody(t, i.Addresses[0].Address)
}

// assertUserIsNobody checks that others cannot log in.
func assertUserIsNobody(t *testing.T, address string) {
	t.Helper()
	for _, args := range [][]string{{"--user=root"}, {"--user=trove_admin"}, {"--user=app", "--password=wrong"}, {"--user="}} {
		cmd := exec.CommandContext(t.Context(), "mariadb", append(args, "--host="+address, "-e", "SELECT 1")...)
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "Access denied") {
			t.Errorf("login with %v: %v %s", args, err, out)
		}
	}
}

func TestDatabasesUsersAndRoot(t *testing.T) {
	d := sharedDeployment(t)
	i := d.create("contents-1")
	d.trove("database", "create", i.ID, "second")
	if got := d.trove("database", "list", i.ID, "-f", "value"); got != "app\nsecond\n" {
		t.Errorf("databases %q", got)
	}
	if _, err := d.tryInput("secret-2\n", "user", "create", i.ID, "bob", "--database", "second", "--password-file", "-"); err != nil {
		t.Fatal(err)
	}
	bob := open(t, i, "bob", "secret-2", "second")
	mustExec(t, bob, "CREATE TABLE t (a INT)")
	if err := open(t, i, "bob", "secret-2", "app").PingContext(t.Context()); err == nil {
		t.Error("bob may use a database that was not granted")
	}
	d.trove("user", "grant", i.ID, "bob", "app")
	if err := open(t, i, "bob", "secret-2", "app").PingContext(t.Context()); err != nil {
		t.Errorf("after grant: %v", err)
	}
	d.trove("user", "revoke", i.ID, "bob", "app")
	if err := open(t, i, "bob", "secret-2", "app").PingContext(t.Context()); err == nil {
		t.Error("after revoke bob may still use app")
	}
	d.trove("user", "update", i.ID, "bob", "--name", "bobby")
	if got := d.trove("user", "list", i.ID, "-f", "value", "-c", "name"); got != "app\nbobby\n" {
		t.Errorf("users %q", got)
	}
	d.trove("user", "delete", i.ID, "bobby")
	d.trove("database", "delete", i.ID, "second")
	if _, err := d.try("database", "delete", i.ID, "second"); err == nil {
		t.Error("a database that is gone was deleted")
	}

	var root struct{ Name, Password string }
	if err := json.Unmarshal([]byte(d.trove("root", "enable", i.ID, "-f", "json")), &root); err != nil {
		t.Fatal(err)
	}
	admin := open(t, i, root.Name, root.Password, "mysql")
	if err := admin.PingContext(t.Context()); err != nil {
		t.Fatalf("root cannot log in: %v", err)
	}
	if got := d.trove("root", "show", i.ID, "-f", "value"); got != "True\n" {
		t.Errorf("root show %q", got)
	}
	d.trove("root", "disable", i.ID)
	if err := open(t, i, root.Name, root.Password, "mysql").PingContext(t.Context()); err == nil {
		t.Error("root can log in after disable")
	}
}

func TestRestartKeepsData(t *testing.T) {
	d := sharedDeployment(t)
	i := d.create("restart-1")
	db := open(t, i, "app", password, "app")
	mustExec(t, db, "CREATE TABLE t (a INT)")
	mustExec(t, db, "INSERT INTO t VALUES (1)")
	before := startOf(t, db)
	d.trove("instance", "restart", i.ID, "--wait")
	db = open(t, i, "app", password, "app")
	if got := queryString(t, db, "SELECT COUNT(*) FROM t"); got != "1" {
		t.Errorf("%s rows after the restart", got)
	}
	if after := startOf(t, db); after <= before {
		t.Errorf("the server was not restarted: it runs since %d, before since %d", after, before)
	}
	if i = d.instance(i.ID); i.Status != "ACTIVE" || i.OperatingStatus != "HEALTHY" {
		t.Errorf("status %s %s", i.Status, i.OperatingStatus)
	}
}

func TestResizeVolumeOnline(t *testing.T) {
	d := sharedDeployment(t)
	i := d.create("grow-1")
	db := open(t, i, "app", password, "app")
	stop := query20Hz(t, db)
	d.trove("instance", "resize", "volume", i.ID, "2", "--wait")
	if failed := stop(); failed > 0 {
		t.Errorf("%d queries failed while the volume grew", failed)
	}
	if i = d.instance(i.ID); i.Volume.Size != 2 || i.Status != "ACTIVE" {
		t.Errorf("size %d, status %s", i.Volume.Size, i.Status)
	}
	if _, err := d.try("instance", "resize", "volume", i.ID, "1"); err == nil {
		t.Error("a volume was made smaller")
	}
}

func TestResizeFlavor(t *testing.T) {
	d := sharedDeployment(t)
	i := d.create("flavor-1")
	before := queryString(t, open(t, i, "app", password, "app"), "SELECT @@innodb_buffer_pool_size")
	d.trove("instance", "resize", "flavor", i.ID, "db.small", "--wait")
	after := queryString(t, open(t, i, "app", password, "app"), "SELECT @@innodb_buffer_pool_size")
	if len(after) < len(before) || after <= before && len(after) == len(before) {
		t.Errorf("buffer pool %s before, %s after", before, after)
	}
	if i = d.instance(i.ID); i.Flavor.ID != "2" {
		t.Errorf("flavor %s", i.Flavor.ID)
	}
}

func TestRenameListAndDelete(t *testing.T) {
	d := sharedDeployment(t)
	i := d.create("rename-1")
	d.trove("instance", "update", i.ID, "--name", "rename-2")
	if got := d.trove("instance", "show", "rename-2", "-f", "value", "-c", "id"); strings.TrimSpace(got) != i.ID {
		t.Errorf("found by the new name: %q", got)
	}
	if list := d.trove("instance", "list", "-f", "value", "-c", "name"); !strings.Contains(list, "rename-2\n") {
		t.Errorf("list %q", list)
	}
	d.trove("instance", "delete", "rename-2", "--wait")
	if _, err := d.client.Instance(t.Context(), i.ID); !client.IsNotFound(err) {
		t.Errorf("after delete: %v", err)
	}
}

// startOf returns when the server was started, in seconds since 1970 with an error of one.
func startOf(t *testing.T, db *sql.DB) int64 {
	t.Helper()
	time.Sleep(2 * time.Second) // so that two starts differ by more than the error
	var start int64
	err := db.QueryRowContext(t.Context(), "SELECT CAST(UNIX_TIMESTAMP() - VARIABLE_VALUE AS INT) FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME='UPTIME'").Scan(&start)
	if err != nil {
		t.Fatal(err)
	}
	return start
}
