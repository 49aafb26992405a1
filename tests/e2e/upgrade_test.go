package e2e_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/guestagent/kept"
	"github.com/trove-dbaas/trove/internal/imagelayout"
	"github.com/trove-dbaas/trove/tests/hostcheck"
)

// TestUpgrade changes the datastore version of real servers: there, back, and not at all.
func TestUpgrade(t *testing.T) {
	before := hostcheck.Take(t.Context(), t)
	d := upgradeDeployment(t)
	defer d.destroy(t, before)
	for name, part := range map[string]func(t *testing.T, d *deployment){
		"RowsAndConfigurationStayAndTheWayBackIsOneCommand": upgradeThereAndBack,
		"ACheckThatFailsChangesNothing":                     upgradeRefused,
		"AServerThatDoesNotStartLeavesTheOldOne":            upgradeOntoABrokenImage,
	} {
		t.Run(name, func(t *testing.T) {
			of := *d
			of.t = t
			part(t, &of)
		})
	}
}

// upgradeDeployment has images of two versions.
func upgradeDeployment(t *testing.T) *deployment {
	t.Helper()
	state := t.TempDir()
	d := &deployment{t: t, state: state, env: append(os.Environ(), "TROVE_CACHE="+cacheDir)}
	if out, err := d.try("image", "build", "--state", state, "--datastore", "mariadb", "--datastore-version", "11.8"); err != nil {
		t.Fatalf("build the image: %v\n%s", err, out)
	}
	d, err := newDeployment(state)
	if err != nil {
		t.Fatal(err)
	}
	d.t = t
	return d
}

// filled makes an instance of the old version with rows, an index on text that is not ASCII among them, and returns their checksum.
func (d *deployment) filled(t *testing.T, name string) (wire.Instance, string) {
	t.Helper()
	i := d.create(name, "--datastore", "mariadb", "--datastore-version", "10.11")
	db := open(t, i, "app", password, "app")
	mustExec(t, db, "CREATE TABLE t (a INT PRIMARY KEY AUTO_INCREMENT, b VARCHAR(100) COLLATE utf8mb4_unicode_520_ci, at DATETIME(6), KEY (b))")
	mustExec(t, db, "INSERT INTO t (b, at) SELECT CONCAT(ELT(1 + seq % 5, 'Zürich', 'ångström', 'Łódź', '東京', 'résumé'), seq), NOW(6) FROM seq_1_to_5000")
	mustExec(t, db, "CREATE VIEW v AS SELECT b FROM t WHERE a > 100")
	mustExec(t, db, "CREATE TABLE old_engine (a INT) ENGINE=MyISAM")
	return i, rowsOf(t, db)
}

// rowsOf is a checksum of the rows in the order of the index.
func rowsOf(t *testing.T, db *sql.DB) string {
	t.Helper()
	return queryString(t, db, "SELECT CONCAT(COUNT(*), '/', BIT_XOR(CRC32(CONCAT_WS('|', a, b, at))), '/', (SELECT COUNT(*) FROM v)) FROM t FORCE INDEX (b)")
}

func wantServer(t *testing.T, d *deployment, i wire.Instance, version, rows string) {
	t.Helper()
	now := d.instance(i.ID)
	if now.Status != "ACTIVE" || now.OperatingStatus != "HEALTHY" || *now.Datastore.Version != version {
		t.Errorf("status %s, operating status %s, version %s, want %s; fault %+v", now.Status, now.OperatingStatus, *now.Datastore.Version, version, now.Fault)
	}
	db := open(t, now, "app", password, "app")
	if got := queryString(t, db, "SELECT @@version"); !strings.HasPrefix(got, version+".") {
		t.Errorf("the server is %s, want %s", got, version)
	}
	if got := rowsOf(t, db); got != rows {
		t.Errorf("the rows are %s, want %s", got, rows)
	}
}

func (d *deployment) keptDir(i wire.Instance) bool {
	_, err := os.Stat(filepath.Join(d.dataOf(i.ID), kept.Dir))
	return err == nil
}

func upgradeThereAndBack(t *testing.T, d *deployment) {
	i, rows := d.filled(t, "upgrade-1")
	d.trove("configuration", "create", "wide", `{"max_connections":77}`, "--datastore", "mariadb", "--datastore-version", "10.11")
	d.trove("configuration", "attach", i.ID, "wide")
	checked := d.trove("instance", "upgrade", i.ID, "--datastore-version", "11.8", "--check", "-f", "json")
	if !strings.Contains(checked, `"possible": true`) {
		t.Errorf("the check says %s", checked)
	}
	connections := func(i wire.Instance) string {
		return queryString(t, open(t, i, "app", password, "app"), "SELECT @@max_connections")
	}
	d.trove("instance", "upgrade", i.ID, "--datastore-version", "11.8", "--wait")
	wantServer(t, d, i, "11.8", rows)
	if got := connections(i); got != "77" {
		t.Errorf("max_connections is %s after the upgrade, want what the configuration group says", got)
	}
	if got := d.trove("instance", "upgrade", i.ID, "-f", "value", "-c", "kept_version"); got != "10.11\n" || !d.keptDir(i) {
		t.Errorf("kept is %q, the copy is there: %v", got, d.keptDir(i))
	}
	mustExec(t, open(t, i, "app", password, "app"), "INSERT INTO t (b) VALUES ('later')")
	if out, err := d.try("instance", "upgrade", i.ID, "--datastore-version", "11.8", "--check"); err != nil {
		t.Errorf("a check for the version that it has: %v %s", err, out)
	}
	d.trove("instance", "upgrade", i.ID, "--rollback", "--wait")
	wantServer(t, d, i, "10.11", rows)
	if got := connections(i); got != "77" || d.keptDir(i) {
		t.Errorf("after the way back max_connections is %s, and the copy is there: %v", got, d.keptDir(i))
	}
	d.refused(t, "no data of an earlier version is kept", "instance", "upgrade", i.ID, "--rollback")

	d.trove("instance", "upgrade", i.ID, "--datastore-version", "11.8", "--wait")
	d.trove("instance", "upgrade", i.ID, "--confirm", "--wait")
	wantServer(t, d, i, "11.8", rows)
	if d.keptDir(i) {
		t.Error("the copy is still there after the confirmation")
	}
	d.refused(t, "older than 11.8", "instance", "upgrade", i.ID, "--datastore-version", "10.11")
	d.trove("instance", "restart", i.ID, "--wait")
	wantServer(t, d, i, "11.8", rows)
}

func upgradeRefused(t *testing.T, d *deployment) {
	i, rows := d.filled(t, "upgrade-2")
	db := open(t, i, "app", password, "app")
	db.SetMaxOpenConns(1)
	for _, s := range []string{"XA START 'x'", "INSERT INTO t (a, b) VALUES (100000, 'prepared')", "XA END 'x'", "XA PREPARE 'x'"} {
		mustExec(t, db, s)
	}
	if out, err := d.try("instance", "upgrade", i.ID, "--datastore-version", "11.8", "--check"); err == nil || !strings.Contains(out+err.Error(), "prepared transactions") {
		t.Errorf("the check says %v %s", err, out)
	}
	started := queryString(t, db, "SELECT VARIABLE_VALUE < 3600 FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME='UPTIME'")
	if out, err := d.try("instance", "upgrade", i.ID, "--datastore-version", "11.8", "--wait"); err == nil || !strings.Contains(out+err.Error(), "prepared transactions") {
		t.Errorf("the upgrade ended with %v %s", err, out)
	}
	if f := d.instance(i.ID).Fault; f == nil || !strings.Contains(f.Message, "refused and nothing was changed") {
		t.Errorf("the fault is %+v", f)
	}
	mustExec(t, db, "XA ROLLBACK 'x'") // on the connection of before: the server was not restarted
	if started != "1" || d.keptDir(i) {
		t.Errorf("uptime %s, a copy is there: %v", started, d.keptDir(i))
	}
	wantServer(t, d, i, "10.11", rows)
}

func upgradeOntoABrokenImage(t *testing.T, d *deployment) {
	i, rows := d.filled(t, "upgrade-3")
	program := filepath.Join(d.rootOf(t, "11.8"), "usr/sbin/mariadbd")
	if err := os.Rename(program, program+".whole"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.Rename(program+".whole", program); err != nil {
			t.Error(err)
		}
	}()
	const script = "#!/bin/sh\ncase \"$*\" in *--version*) echo 'mariadbd  Ver 11.8.9-MariaDB for debian-linux-gnu'; exit 0;; esac\necho 'the test broke this server' >&2\nexit 1\n"
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := d.try("instance", "upgrade", i.ID, "--datastore-version", "11.8", "--wait")
	if err == nil {
		t.Fatalf("the upgrade is done: %s", out)
	}
	if f := d.instance(i.ID).Fault; f == nil || !strings.Contains(f.Message, "taken back") || !strings.Contains(f.Message, "the test broke this server") {
		t.Errorf("the fault is %+v", f)
	}
	wantServer(t, d, i, "10.11", rows)
	if d.keptDir(i) {
		t.Error("a copy was left")
	}
}

// rootOf returns the root file system of the image of a version.
func (d *deployment) rootOf(t *testing.T, version string) string {
	t.Helper()
	images := filepath.Join(d.state, "images")
	all, err := imagelayout.List(images)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if m.Version == version {
			return imagelayout.RootFS(images, m.ID)
		}
	}
	t.Fatalf("there is no image of %s in %s", version, images)
	return ""
}
