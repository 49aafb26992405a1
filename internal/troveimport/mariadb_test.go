package troveimport_test

import (
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/enginetest"
	"github.com/trove-dbaas/trove/engine/mariadb"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/troveimport"
)

const (
	engineID              = 65534 // an account that owns nothing
	password trove.Secret = "import-pw"
)

// layout makes the directories of a server on a loopback address of its own. They are not below t.TempDir, whose path is too long for a socket.
func layout(t *testing.T) engine.Layout {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the server runs as another account")
	}
	dir, err := os.MkdirTemp("", "imp") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	pid := os.Getpid()
	l := engine.Layout{
		Data: dir + "/data", Runtime: dir + "/run", State: dir + "/state", UID: engineID, GID: engineID, Address: fmt.Sprintf("127.%d.%d.200", 64+pid>>8&0x3f, pid&0xff),
	}
	for path, perm := range map[string]os.FileMode{dir: 0o755, l.Data: 0o755, l.Runtime: 0o711, l.State: 0o700} {
		if err := os.MkdirAll(path, perm); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, perm); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// TestFromMariaDB reads the same content out of a real server.
func TestFromMariaDB(t *testing.T) {
	s := enginetest.Setup{Engine: mariadb.New(slog.New(slog.DiscardHandler), clock.System{}), Layout: layout(t)}
	for _, err := range []error{
		s.Engine.Initialise(t.Context(), s.Layout),
		s.Engine.Prepare(t.Context(), s.Layout, engine.Preparation{
			InstanceID: "i", ServerID: 1, Settings: engine.Settings{RAM: 512, VCPUs: 1}, Databases: []trove.Database{{Name: "trove"}},
			Users: []trove.User{{Name: "trove", Password: password, Databases: []string{"trove"}}},
		}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	enginetest.Start(t, s)
	c := mysql.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr, c.DBName, c.TLS = "trove", password.Reveal(), "tcp", s.Layout.Address+":3306", "trove", &tls.Config{InsecureSkipVerify: true}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	fixture(t, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	from, err := troveimport.Open(t.Context(), "mysql+pymysql://trove@"+s.Layout.Address+"/trove?charset=utf8", password)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = from.Close() }()
	into := newStore(t)
	if diff := cmp.Diff(firstReport, lines(t, from, into, false)); diff != "" {
		t.Error(diff)
	}
	checkImported(t, into)
	if _, err := troveimport.Open(t.Context(), "mysql://trove@"+s.Layout.Address+"/trove", "wrong"); err == nil {
		t.Error("a wrong password was taken")
	}

	// The same as a dump of the server's own program.
	dump, err := exec.CommandContext(t.Context(), "mariadb-dump", "--no-defaults", "--socket="+filepath.Join(s.Layout.Runtime, "mariadb", "run", "mariadb.sock"), "trove").Output()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("there is no mariadb-dump")
	}
	if err != nil {
		t.Fatalf("%v: %s", err, dump)
	}
	path := filepath.Join(t.TempDir(), "trove.sql")
	if err := os.WriteFile(path, dump, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := troveimport.Open(t.Context(), "file://"+path, "")
	if err != nil {
		t.Fatal(err)
	}
	into = newStore(t)
	if diff := cmp.Diff(firstReport, lines(t, file, into, false)); diff != "" {
		t.Error(diff)
	}
	checkImported(t, into)
}
