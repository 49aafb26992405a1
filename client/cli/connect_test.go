package cli_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client/cli"
)

// ofKind is a service whose instance shop is of a datastore.
func ofKind(store string, change func(*wire.Instance)) *fakeAPI {
	api := newFakeAPI()
	api.mux = http.NewServeMux()
	api.mux.HandleFunc("POST /identity/v3/auth/tokens", api.login)
	api.mux.HandleFunc("GET /v1.0/p/instances/{id}", func(w http.ResponseWriter, r *http.Request) {
		i := shop()
		i.Datastore.Type = &store
		if change != nil {
			change(&i)
		}
		encode(w, wire.InstanceBody{Instance: i})
	})
	return api
}

func TestConnect(t *testing.T) {
	for name, test := range map[string]struct {
		store string
		args  []string
		want  []string
	}{
		"mariadb":        {"mariadb", []string{"--user", "app", "--database", "orders"}, []string{"mariadb", "--host=10.0.0.5", "--user=app", "--password", "orders"}},
		"mariadb, alone": {"mariadb", nil, []string{"mariadb", "--host=10.0.0.5", "--user=root", "--password"}},
		"mariadb, option file": {
			"mariadb",
			[]string{"--defaults-file", "my.cnf", "-d", "orders"},
			[]string{"mariadb", "--defaults-extra-file=my.cnf", "--host=10.0.0.5", "--user=root", "orders"},
		},
		"mariadb, public": {
			"mariadb",
			[]string{"--public"},
			[]string{"mariadb", "--port=20017", "--host=198.51.100.5", "--user=root", "--password"},
		},
		"mysql":      {"mysql", []string{"-u", "app"}, []string{"mysql", "--host=10.0.0.5", "--user=app", "--password"}},
		"postgresql": {"postgresql", []string{"-u", "app"}, []string{"psql", "--host=10.0.0.5", "--username=app", "--dbname=postgres"}},
		"valkey":     {"valkey", []string{"-u", "app"}, []string{"valkey-cli", "-h", "10.0.0.5", "--user", "app", "--askpass"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShell(ofKind(test.store, nil))
			var path string
			var argv []string
			s.env.LookPath = func(name string) (string, error) { return "/usr/bin/" + name, nil }
			s.env.Exec = func(p string, args []string) error { path, argv = p, args; return nil }
			s.must(t, append([]string{"instance", "connect", shopID}, test.args...)...)
			if diff := cmp.Diff(test.want, argv); diff != "" || path != "/usr/bin/"+test.want[0] {
				t.Errorf("%s, -want +got\n%s", path, diff)
			}
			if slices.ContainsFunc(argv, func(a string) bool {
				return strings.Contains(a, s.vars["OS_PASSWORD"]) || strings.HasPrefix(a, "--password=")
			}) {
				t.Errorf("a password is on the command line: %q", argv)
			}
		})
	}
}

func TestConnectHasNoFlagForAPassword(t *testing.T) {
	cmd, _, err := newShell(newFakeAPI()).command().Find([]string{"instance", "connect"})
	if err != nil {
		t.Fatal(err)
	}
	if f := cmd.Flags().Lookup("password"); f != nil {
		t.Errorf("--password would be seen by every user of the machine: %v", f.Usage)
	}
}

func TestConnectSaysWhatIsMissing(t *testing.T) {
	for name, test := range map[string]struct {
		api  *fakeAPI
		args []string
		want string
		code int
	}{
		"engine":  {ofKind("cassandra", nil), nil, `No client is known for the datastore "cassandra"; connect to 10.0.0.5, 198.51.100.5:20017 with one of your own.`, cli.ExitFailed},
		"address": {ofKind("mariadb", func(i *wire.Instance) { i.Addresses, i.Status = nil, "BUILD" }), nil, "shop has no address yet: its status is BUILD.", cli.ExitFailed},
		"public":  {ofKind("mariadb", func(i *wire.Instance) { i.Addresses = i.Addresses[:1] }), []string{"--public"}, "shop has no public address; trove instance update shop --is-public gives it one.", cli.ExitFailed},
		"program": {ofKind("mariadb", nil), nil, `The client "mariadb" is not installed; on Debian: apt-get install mariadb-client.`, cli.ExitFailed},
		"psql":    {ofKind("postgresql", nil), nil, `The client "psql" is not installed; on Debian: apt-get install postgresql-client.`, cli.ExitFailed},
		"valkey":  {ofKind("valkey", nil), nil, `The client "valkey-cli" is not installed; on Debian: apt-get install valkey-tools.`, cli.ExitFailed},
		"file":    {ofKind("postgresql", nil), []string{"--defaults-file", "x"}, "--defaults-file is for mariadb and mysql: psql takes none.", cli.ExitUsage},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShell(test.api)
			s.env.LookPath = func(string) (string, error) { return "", errors.New("not there") }
			message, code := cli.Explain(s.run(t, append([]string{"instance", "connect", shopID}, test.args...)...))
			if message != test.want || code != test.code {
				t.Errorf("exit code %d: %q", code, message)
			}
		})
	}
}
