package machine_test

import (
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	"go.uber.org/goleak"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/machinedata"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	volumeID   = "7c1b1f0e-77a1-4b77-8b5b-6f9a8f3f0a01"
	previousID = "9a2b1f0e-77a1-4b77-8b5b-6f9a8f3f0a02"
	password   = "Geheim-123"
)

// The times that a guest has under emulation on a machine with nothing else to do are 10 and 12 s; these are the promise, five times of what was measured.
const (
	untilAgent = 50 * time.Second
)

func (c *control) data(token string) machinedata.Data {
	return machinedata.Data{
		DataVolume: volumeID, IsolateManagement: true,
		Boot: bus.BootData{Instance: c.tokens.id, Engine: "mariadb", Token: token, EnrolURLs: c.broker.EnrolURLs(), CABundle: c.broker.CABundle()},
		Interfaces: []machinedata.Interface{
			{MAC: managementMAC, Role: machinedata.RoleManagement, Addresses: []string{managementAddress + "/24"}, MTU: 1500},
			{MAC: userMAC, Role: machinedata.RoleUser, Addresses: []string{userAddress + "/24"}, Gateway: userHost, MTU: 1450},
		},
	}
}

func newVolume(t *testing.T, size int64) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "volume")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestLifeOfAMachine is one story, because each start of a machine takes its time.
func TestLifeOfAMachine(t *testing.T) {
	root, _ := disk(t)
	c := newControl(t)
	volume, client, closed := newVolume(t, 2<<30), freePort(t), freePort(t)
	forward := [2]string{fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%s-%s:3306", client, userAddress), fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%s-%s:3306", closed, managementAddress)}
	token := c.tokens.make()
	v := start(t, root, configDrive(t, c.data(token)), volume, forward)
	v.says("this is trove-test")
	v.says("/dev/vdb is new")
	v.until("the agent is on the bus", func() bool { n, _ := c.seen(); return n > 0 })
	if took := time.Since(v.started); took > untilAgent {
		t.Errorf("the agent was on the bus after %s, not %s", took, untilAgent)
	}
	v.says("the agent is on the bus")

	c.long(v, guestapi.CmdPrepare, "op/prepare", guestapi.PrepareArgs{
		ServerID: 1, RAM: 512, VCPUs: 1, RootPassword: password, Databases: []trove.Database{{Name: "shop"}},
		Users: []guestapi.UserArgs{{Name: "anna", Password: password, Databases: []string{"shop"}}},
	})
	v.until("healthy", func() bool { _, h := c.seen(); return h.Service == trove.ServiceHealthy })
	execute(t, client, "anna", "shop", "CREATE TABLE t (n INT)", "INSERT INTO t VALUES (41), (1)")
	v.until("a row from outside, on the user network", func() bool { return sum(t, client) == 42 })
	c.wantIsolated(v, client)
	wantSilent(t, closed)
	c.growTo(v, 3)

	v.powerButton()
	if _, h := c.seen(); h.Event != "" {
		t.Errorf("the stop was reported as %q", h.Event)
	}
	wantNoSecret(t, v.said(), token)

	// Rebuilt: new user data, and the volume of before.
	hellos, _ := c.seen()
	second := c.tokens.make()
	rebuilt := c.data(second)
	rebuilt.PreviousVolume = previousID
	v = start(t, root, configDrive(t, rebuilt), volume, forward)
	v.says("the root of the previous image /dev/vdc2 is mounted at /run/previous")
	v.until("the agent is on the bus again", func() bool { n, _ := c.seen(); return n > hellos })
	v.until("the rows are there", func() bool { return sum(t, client) == 42 })
	if said := v.said(); strings.Contains(said, "is formatted") || strings.Contains(said, "initialised database was copied") {
		t.Error("the volume was formatted, or filled, a second time")
	}
	if n := c.tokens.uses(); n != 1 {
		t.Errorf("%d tokens were used: a guest that knows who it is needs none", n)
	}
	wantNoSecret(t, v.said(), second)
	v.powerButton()
}

// A disk with somebody's data is refused, on the console, and left as it is.
func TestForeignVolumeIsRefused(t *testing.T) {
	root, _ := disk(t)
	c := newControl(t)
	volume := newVolume(t, 1<<30)
	if err := os.WriteFile(volume, []byte("somebody's data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(volume, 1<<30); err != nil {
		t.Fatal(err)
	}
	v := start(t, root, configDrive(t, c.data(c.tokens.make())), volume, [2]string{})
	v.says("FAILED: open the data volume: the disk /dev/vdb has something that is none of the known file systems on it")
	f, err := os.Open(volume)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	head := make([]byte, 15)
	if _, err := f.Read(head); err != nil || string(head) != "somebody's data" {
		t.Errorf("on the volume is %q, %v", head, err)
	}
	v.powerButton()
}

// A volume that a Python Trove laid out is taken as it is, and grows.
func TestVolumeWithExt4(t *testing.T) {
	root, _ := disk(t)
	c := newControl(t)
	volume := newVolume(t, 512<<20)
	if out, err := exec.CommandContext(t.Context(), "mkfs.ext4", "-q", volume).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v: %s", err, out)
	}
	if err := os.Truncate(volume, 1<<30); err != nil {
		t.Fatal(err)
	}
	v := start(t, root, configDrive(t, c.data(c.tokens.make())), volume, [2]string{})
	v.says("the data volume /dev/vdb (ext4) is mounted at /data")
	v.says("the file system was grown to the size of the volume")
	v.says("the agent is on the bus")
	v.powerButton()
}

func wantNoSecret(t *testing.T, console, token string) {
	t.Helper()
	for _, secret := range []string{token, password, "BEGIN"} {
		if strings.Contains(console, secret) {
			t.Errorf("the console has %q", secret)
		}
	}
}

func open(t *testing.T, port, user, database string) *sql.DB {
	t.Helper()
	db, err := sql.Open("mysql", fmt.Sprintf("%s:%s@tcp(127.0.0.1:%s)/%s?tls=skip-verify&timeout=10s&readTimeout=60s", user, password, port, database))
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func execute(t *testing.T, port, user, database string, statements ...string) {
	t.Helper()
	db := open(t, port, user, database)
	defer func() { _ = db.Close() }()
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// sum is that of the rows, 0 while the database does not answer.
func sum(t *testing.T, port string) (n int) {
	t.Helper()
	db := open(t, port, "anna", "shop")
	defer func() { _ = db.Close() }()
	_ = db.QueryRowContext(t.Context(), "SELECT SUM(n) FROM t").Scan(&n) // it is asked again
	return n
}

// wantIsolated lets the database itself, which runs as its own account, go out: as a replica it connects to where it is told.
func (c *control) wantIsolated(v *vm, port string) {
	c.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	var calls atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			calls.Add(1)
			conn.Close()
		}
	}()
	defer func() {
		_ = listener.Close() // it ends the loop
		<-done
	}()
	_, there, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		c.t.Fatal(err)
	}
	replica := func(host string) {
		execute(c.t, port, "root", "",
			"STOP SLAVE", fmt.Sprintf("CHANGE MASTER TO MASTER_HOST='%s', MASTER_PORT=%s, MASTER_USER='x', MASTER_CONNECT_RETRY=1", host, there), "START SLAVE")
	}
	replica(controllers)
	v.until("the database was refused the management network", func() bool { return strings.Contains(replicaError(c.t, port), controllers) })
	if n := calls.Load(); n != 0 {
		c.t.Errorf("the database reached the management network %d times: %s", n, replicaError(c.t, port))
	}
	replica(userHost)
	v.until("the database reaches its own network", func() bool { return calls.Load() > 0 })
	execute(c.t, port, "root", "", "STOP SLAVE", "RESET SLAVE ALL")
}

// wantSilent connects to the database by way of the management network, where it must not answer: QEMU takes the connection, and nothing comes.
func wantSilent(t *testing.T, port string) {
	t.Helper()
	conn, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("the database said %d bytes on the management network", n)
	}
}

func replicaError(t *testing.T, port string) string {
	t.Helper()
	db := open(t, port, "root", "")
	defer func() { _ = db.Close() }()
	rows, err := db.QueryContext(t.Context(), "SHOW SLAVE STATUS")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		values := make([]sql.NullString, len(names))
		into := make([]any, len(names))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		for i, name := range names {
			if name == "Last_IO_Error" {
				return values[i].String
			}
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return ""
}

// growTo grows the volume under the running database.
func (c *control) growTo(v *vm, gib int) {
	c.t.Helper()
	_, before := c.seen()
	v.monitor("block_resize", map[string]any{"device": "data", "size": int64(gib) << 30})
	c.long(v, guestapi.CmdGrow, "op/grow", guestapi.GrowArgs{SizeGiB: gib})
	v.until("the volume has grown", func() bool {
		_, h := c.seen()
		return h.VolumeTotal > before.VolumeTotal+(900<<20)
	})
}
