package postgresql_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/enginetest"
	"github.com/trove-dbaas/trove/engine/postgresql"
)

func wantDrift(t *testing.T, s enginetest.Setup, want ...engine.Difference) {
	t.Helper()
	got, err := newEngine().Drift(t.Context(), s.Layout)
	must(t, err)
	if diff := cmp.Diff(append([]engine.Difference{}, want...), got); diff != "" {
		t.Errorf("Drift() (-want +got):\n%s", diff)
	}
}

// TestDriftOfDatabasesAndUsers changes parameters in each way that a tenant has. What no group and no formula gave is the tenant's own.
func TestDriftOfDatabasesAndUsers(t *testing.T) {
	p := shop()
	p.RootPassword = "pw-root"
	p.Settings.Overrides = raw(map[string]string{"work_mem": "5120"})
	s := prepared(t, p)
	enginetest.Start(t, s)
	wantDrift(t, s) // the driver itself sets the role of a user in a database
	alice := client(t, s.Layout, "alice", "pw-a", "shop")
	wantAnswer(t, alice, "SET work_mem = '7MB'; ALTER DATABASE shop SET work_mem = '5MB'; ALTER DATABASE shop SET search_path = shop, public", "")
	wantDrift(t, s)
	wantAnswer(t, alice, `ALTER DATABASE shop SET work_mem = '6MB'; SET ROLE NONE; ALTER ROLE alice SET password_encryption = 'md5';
		ALTER ROLE alice IN DATABASE shop SET work_mem = 9216`, "")
	wantDrift(t, s,
		engine.Difference{Name: "password_encryption", Want: "scram-sha-256", Is: "md5 for the user alice"},
		engine.Difference{Name: "work_mem", Want: "5120", Is: "6MB in the database shop, 9216 for the user alice in the database shop"},
	)
	wantAnswer(t, alice, "ALTER ROLE alice RESET ALL; ALTER ROLE alice IN DATABASE shop RESET work_mem; SET role = owner_of_shop; ALTER DATABASE shop RESET work_mem", "")
	wantDrift(t, s)
}

// TestDriftOfTheWholeServer writes what ALTER SYSTEM writes, which none of our users may run.
func TestDriftOfTheWholeServer(t *testing.T) {
	s := prepared(t, shop())
	path := filepath.Join(s.Layout.Data, "pgsql/postgresql.auto.conf")
	must(t, os.WriteFile(path, []byte("work_mem = '1GB'\nMax_Connections = '61'\nssl = 'off'\nwork_mem = '6MB'\nmin_wal_size = 80MB\nenable_seqscan = off\n"), 0o600))
	must(t, os.Chown(path, engineID, engineID))
	srv := enginetest.Start(t, s)
	wanted := map[string]string{}
	got, err := newEngine().Drift(t.Context(), s.Layout)
	must(t, err)
	for _, d := range got {
		wanted[d.Name] = d.Want
	}
	for _, name := range []string{"work_mem", "max_connections"} {
		if wanted[name] == "" || wanted[name] != newEngine().Defaults(engine.Settings{RAM: 512, VCPUs: 1})[name] {
			t.Errorf("Drift() says of %s that it should be %q", name, wanted[name])
		}
	}
	wantDrift(t, s,
		engine.Difference{Name: "max_connections", Want: wanted["max_connections"], Is: "61"},
		engine.Difference{Name: "ssl", Want: "on", Is: "off"},
		engine.Difference{Name: "work_mem", Want: wanted["work_mem"], Is: "6MB"},
	)
	srv.Stop()
	must(t, os.WriteFile(path, nil, 0o600))
	enginetest.Start(t, s)
	wantDrift(t, s)
}

func TestSameValues(t *testing.T) {
	for _, c := range []struct {
		kind, unit, a, b string
		want             bool
	}{
		{"integer", "kB", "4MB", "4096", true},
		{"integer", "kB", "4 MB", " 4096kB ", true},
		{"integer", "8kB", "128MB", "16384", true},
		{"integer", "8kB", "128MB", "16385", false},
		{"integer", "ms", "1min", "60000", true},
		{"integer", "ms", "1 s", "1001", false},
		{"integer", "", "0x10", "16", true},
		{"integer", "", "-1", "-1", true},
		{"real", "", "1.10", "1.1", true},
		{"real", "ms", "500us", "0.5", true},
		{"integer", "kB", "4XB", "4", false},
		{"integer", "kB", "much", "much", false},
		{"bool", "", "on", "yes", true},
		{"bool", "", "of", "false", true},
		{"bool", "", "o", "off", false},
		{"bool", "", "1", "f", false},
		{"enum", "", "SCRAM-sha-256", "scram-sha-256", true},
		{"string", "", "UTC", "utc", false},
	} {
		if got := postgresql.Same(c.kind, c.unit, c.a, c.b); got != c.want {
			t.Errorf("%s %q: %q and %q the same: %t, want %t", c.kind, c.unit, c.a, c.b, got, c.want)
		}
	}
}
