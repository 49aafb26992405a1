package familytest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/enginetest"
)

// adoptsWhatAPythonTroveLeft lays a volume out as a Python Trove does, with the accounts that it makes, and begins with it.
func (c Case) adoptsWhatAPythonTroveLeft(t *testing.T) {
	s := c.prepared(t, engine.Preparation{RootPassword: "root-pw", Databases: []trove.Database{{Name: "shop"}}})
	a, ok := s.Engine.(engine.Adopter)
	if !ok {
		t.Fatal("it is no engine.Adopter")
	}
	srv := enginetest.Start(t, s)
	db := client(t, s.Layout, "root", "root-pw", "shop")
	for _, statement := range []string{
		"CREATE TABLE orders (id INT PRIMARY KEY)", "INSERT INTO orders VALUES (1), (2), (3)",
		"CREATE USER os_admin@localhost IDENTIFIED BY 'known to the other one'", "GRANT ALL ON *.* TO os_admin@localhost",
		"CREATE USER shop@'%' IDENTIFIED BY 'shop-pw'", "GRANT ALL ON shop.* TO shop@'%'", "ALTER USER root@localhost IDENTIFIED BY 'of the container'",
	} {
		_, err := db.ExecContext(t.Context(), statement)
		must(t, err)
	}
	must(t, db.Close())
	srv.Stop()
	fresh := c.setup(t)
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
	must(t, os.Rename(filepath.Join(s.Layout.Data, "mysql"), data))
	must(t, exec.CommandContext(t.Context(), "chown", "-R", "1001:1001", data).Run())
	must(t, os.Mkdir(filepath.Join(fresh.Layout.Data, "conf.d"), 0o755))
	must(t, os.WriteFile(filepath.Join(fresh.Layout.Data, "conf.d", "root.cnf"), []byte("[client]\npassword = of the container\n"), 0o600))
	for range 2 {
		must(t, adopt())
	}
	if found, _ := filepath.Glob(filepath.Join(fresh.Layout.Data, "*")); len(found) != 1 {
		t.Errorf("on the volume are %v, want the data directory alone", found)
	}
	must(t, fresh.Engine.Prepare(t.Context(), fresh.Layout, engine.Preparation{
		InstanceID: "3b0b86f0-2f4f-4b0c-9a43-0b7b8d6f6a55", ServerID: 7, Settings: engine.Settings{RAM: 512}, Adopted: true,
	}))
	if u, ok := s.Engine.(engine.Upgrader); ok {
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
