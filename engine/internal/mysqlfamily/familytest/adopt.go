package familytest

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/enginetest"
)

// adoptsWhatAPythonTroveLeft lays a volume out as a Python Trove does, with the accounts that it makes, and begins with it.
func (c Case) adoptsWhatAPythonTroveLeft(t *testing.T) {
	fresh := c.setup(t)
	a, ok := fresh.Engine.(engine.Adopter)
	if !ok {
		t.Fatal("it is no engine.Adopter")
	}
	adopt := func() error { return a.Adopt(t.Context(), fresh.Layout) }
	if err := adopt(); !trove.IsNotFound(err) {
		t.Errorf("Adopt() of an empty volume = %v, want not found", err)
	}
	data := filepath.Join(fresh.Layout.Data, "data")
	must(t, os.Mkdir(data, 0o755))
	must(t, os.WriteFile(filepath.Join(data, "ibdata1"), nil, 0o600))
	if err := adopt(); !trove.IsNotFound(err) {
		t.Errorf("Adopt() of half a data directory = %v, want not found", err)
	}
	must(t, os.RemoveAll(data))
	must(t, os.Rename(c.ofAPythonTrove(t), data))
	must(t, os.Mkdir(filepath.Join(fresh.Layout.Data, "conf.d"), 0o755))
	must(t, os.WriteFile(filepath.Join(fresh.Layout.Data, "conf.d", "root.cnf"), []byte("[client]\npassword = of the container\n"), 0o600))
	for range 2 {
		must(t, adopt())
	}
	if found, _ := filepath.Glob(filepath.Join(fresh.Layout.Data, "*")); len(found) != 1 {
		t.Errorf("on the volume are %v, want the data directory alone", found)
	}
	must(t, fresh.Engine.Prepare(t.Context(), fresh.Layout, engine.Preparation{
		InstanceID: "3b0b86f0-2f4f-4b0c-9a43-0b7b8d6f6a55", ServerID: 7, Settings: engine.Settings{RAM: 512}, RootPassword: "root-pw", Adopted: true,
	}))
	if u, ok := fresh.Engine.(engine.Upgrader); ok {
		must(t, u.Upgrade(t.Context(), fresh.Layout, "", func(string, int) {}))
	}
	enginetest.Start(t, fresh) // pings as the agent does
	var rows, accounts int
	must(t, client(t, fresh.Layout, "shop", "shop-pw", "shop").QueryRowContext(t.Context(), "SELECT COUNT(*) FROM orders").Scan(&rows))
	must(t, client(t, fresh.Layout, "root", "root-pw", "").QueryRowContext(t.Context(), "SELECT COUNT(*) FROM mysql.user WHERE User='os_admin'").Scan(&accounts))
	if rows != 3 || accounts != 0 {
		t.Errorf("%d rows and %d accounts of the other Trove, want 3 and none", rows, accounts)
	}
}

// foreignID is the account of the database in a container of a Python Trove.
const foreignID = 1001

// ofAPythonTrove makes a data directory as the container of a Python Trove does: with the account, the size of the system tablespace and the accounts of the server that it has there.
func (c Case) ofAPythonTrove(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mdbo") //nolint:usetesting // t.TempDir is closed to other accounts and its path too long for a socket
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	data, first := filepath.Join(dir, "data"), filepath.Join(dir, "first.sql")
	must(t, os.Mkdir(data, 0o700))
	must(t, os.WriteFile(first, []byte(strings.Join([]string{
		"DROP USER IF EXISTS root@'127.0.0.1', root@'::1', ''@localhost;", "CREATE DATABASE shop;", "CREATE TABLE shop.orders (id INT PRIMARY KEY);", "INSERT INTO shop.orders VALUES (1), (2), (3);",
		"CREATE USER os_admin@localhost IDENTIFIED BY 'known to the other one';", "GRANT ALL ON *.* TO os_admin@localhost WITH GRANT OPTION;",
		"CREATE USER shop@'%' IDENTIFIED BY 'shop-pw';", "GRANT ALL ON shop.* TO shop@'%';", "ALTER USER root@localhost IDENTIFIED BY 'of the container';", "SHUTDOWN;", "",
	}, "\n")), 0o600))
	for _, each := range []string{dir, data, first} {
		must(t, os.Chown(each, foreignID, foreignID))
	}
	common := append([]string{"--datadir=" + data, "--tmpdir=" + dir, "--innodb-data-file-path=ibdata1:10M:autoextend"}, c.Bare...)
	for _, line := range [][]string{
		append(slices.Clone(c.Tables), common...),
		append([]string{c.Server, "--no-defaults", "--skip-networking", "--socket=" + dir + "/socket", "--pid-file=" + dir + "/pid", "--init-file=" + first}, common...),
	} {
		cmd := exec.CommandContext(t.Context(), line[0], line[1:]...)
		cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: foreignID, Gid: foreignID}}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", line[0], err, out)
		}
	}
	return data
}
