package cli_test

import (
	"context"
	"errors"
	"net/http"
	"os"
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

// authorities is what the service's own certificates are verified with.
const authorities = "-----BEGIN CERTIFICATE-----\nthe deployment's\n"

// connected is a shell whose service tells this of TLS and has these users, and what it starts.
type connected struct {
	*shell
	path      string
	argv, env []string
	trusted   string // what the started program reads of the file of authorities
	version   string // what the program says of itself
}

func connect(api *fakeAPI, tls *wire.SSL, root bool, users ...string) *connected {
	list := wire.UserList{Users: []wire.User{}}
	for _, u := range users {
		list.Users = append(list.Users, wire.User{Name: u})
	}
	api.mux.HandleFunc("GET /v1.0/p/instances/{id}/users", func(w http.ResponseWriter, _ *http.Request) { encode(w, list) })
	api.mux.HandleFunc("GET /v1.0/p/instances/{id}/root", func(w http.ResponseWriter, _ *http.Request) { encode(w, wire.RootEnabled{RootEnabled: root}) })
	api.mux.HandleFunc("GET /v1.0/p/instances/{id}/ssl", func(w http.ResponseWriter, _ *http.Request) {
		if tls == nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(`{"serviceUnavailable":{"code":503,"message":"The guest does not answer."}}`))
			return
		}
		encode(w, wire.SSLBody{SSL: *tls})
	})
	c := &connected{shell: newShell(api), version: "mariadb from 11.8.2-MariaDB, client 15.2"}
	c.shell.env.LookPath = func(name string) (string, error) { return "/usr/bin/" + name, nil }
	c.shell.env.Output = func(_ context.Context, path string, args ...string) (string, error) {
		if !slices.Equal(args, []string{"--version"}) {
			return "", errors.New(path + " should tell its version")
		}
		return c.version, nil
	}
	c.shell.env.Exec = func(p string, args, env []string) error {
		c.path, c.argv, c.env = p, args, env
		for _, list := range [][]string{c.argv, c.env} {
			for n, word := range list {
				at := strings.Index(word, "/dev/fd/")
				if at < 0 {
					continue
				}
				data, err := os.ReadFile(word[at:])
				if err != nil {
					return err
				}
				c.trusted, list[n] = string(data), word[:at]+"CA"
			}
		}
		return nil
	}
	return c
}

// ours shows a certificate of the service, theirs another one.
func ours() *wire.SSL {
	return &wire.SSL{Status: "on", Mode: "builtin", Certificate: &wire.SSLCertificate{CN: "shop", Authorities: authorities}}
}

func theirs() *wire.SSL {
	return &wire.SSL{Status: "on", Mode: "basic", Certificate: &wire.SSLCertificate{CN: "shop"}}
}

func off() *wire.SSL { return &wire.SSL{Status: "off", Mode: "builtin"} }

// atPort is TLS on a port of its own.
func atPort(s *wire.SSL) *wire.SSL {
	s.TLSPort = 6380
	return s
}

// twoPorts has a port of the host for each of the engine's.
func twoPorts(i *wire.Instance) {
	i.Addresses = append(i.Addresses, wire.Address{Address: "2001:db8::5", Type: "public", Port: 20017},
		wire.Address{Address: "198.51.100.5", Type: "public", Port: 20018}, wire.Address{Address: "2001:db8::5", Type: "public", Port: 20018})
}

func TestConnect(t *testing.T) {
	words := strings.Fields
	for name, test := range map[string]struct {
		store string
		tls   *wire.SSL
		args  []string
		want  string
		env   []string
		doubt string
	}{
		"mariadb":        {"mariadb", ours(), words("--user app --database orders"), "mariadb --ssl-ca=CA --ssl-verify-server-cert --host=10.0.0.5 --user=app --password orders", nil, ""},
		"mariadb, alone": {"mariadb", ours(), nil, "mariadb --ssl-ca=CA --ssl-verify-server-cert --host=10.0.0.5 --user=first --password", nil, "Connecting to shop as first.\n"},
		"mariadb, option file": {
			"mariadb", ours(), words("--defaults-file my.cnf -d orders"),
			"mariadb --defaults-extra-file=my.cnf --ssl-ca=CA --ssl-verify-server-cert --host=10.0.0.5 orders", nil, "",
		},
		"mariadb, public": {
			"mariadb", ours(), words("--public -u app"),
			"mariadb --port=20017 --ssl-ca=CA --ssl-verify-server-cert --host=198.51.100.5 --user=app --password", nil, "",
		},
		"mariadb, TLS off": {
			"mariadb", off(), words("-u app"), "mariadb --host=10.0.0.5 --user=app --password", nil,
			"TLS of shop is off: nothing is verified, and what is sent can be read on the way. To switch it on: trove ssl enable shop\n",
		},
		"mariadb, another's certificate": {
			"mariadb", theirs(), words("-u app"), "mariadb --ssl --skip-ssl-verify-server-cert --host=10.0.0.5 --user=app --password", nil,
			"shop shows a certificate that the service did not make: it is not verified.\n",
		},
		"mariadb, not verified": {
			"mariadb", ours(), words("-u app --no-verify"), "mariadb --ssl --skip-ssl-verify-server-cert --host=10.0.0.5 --user=app --password", nil,
			"The certificate of shop is not verified.\n",
		},
		"mariadb, not verified, silent guest": {
			"mariadb", nil, words("-u app --no-verify"), "mariadb --host=10.0.0.5 --user=app --password", nil, "The certificate of shop is not verified.\n",
		},
		"mysql by MariaDB's client": {"mysql", ours(), words("-u app"), "mysql --ssl-ca=CA --ssl-verify-server-cert --host=10.0.0.5 --user=app --password", nil, ""},
		"postgresql": {
			"postgresql", ours(), words("-u app"), "psql --host=10.0.0.5 --username=app --dbname=postgres", []string{"PGSSLMODE=verify-full", "PGSSLROOTCERT=CA"}, "",
		},
		"postgresql, not verified": {
			"postgresql", ours(), words("-u app --no-verify"), "psql --host=10.0.0.5 --username=app --dbname=postgres",
			[]string{"PGSSLMODE=require"},
			"The certificate of shop is not verified.\n",
		},
		"redis": {
			"redis", atPort(ours()), words("-u app"), "redis-cli -p 6380 --tls --cacert CA -h 10.0.0.5 --user app --askpass", nil,
			"redis-cli verifies that the certificate is of this deployment, and not that it is of shop.\n",
		},
		"redis, TLS off":      {"redis", off(), words("-u app --no-verify"), "redis-cli -h 10.0.0.5 --user app --askpass", nil, "The certificate of shop is not verified.\n"},
		"redis, not verified": {"redis", atPort(ours()), words("-u app --no-verify"), "redis-cli -p 6380 --tls --insecure -h 10.0.0.5 --user app --askpass", nil, "The certificate of shop is not verified.\n"},
		"valkey, public": {
			"valkey", atPort(ours()), words("-u app --public"), "valkey-cli -p 20018 --tls --cacert CA -h 198.51.100.5 --user app --askpass", nil,
			"valkey-cli verifies that the certificate is of this deployment, and not that it is of shop.\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			c := connect(ofKind(test.store, twoPorts), test.tls, false, "first", "second")
			c.must(t, append([]string{"instance", "connect", shopID}, test.args...)...)
			if diff := cmp.Diff(words(test.want), c.argv); diff != "" || c.path != "/usr/bin/"+c.argv[0] {
				t.Errorf("%s, -want +got\n%s", c.path, diff)
			}
			if diff := cmp.Diff(test.env, c.env); diff != "" {
				t.Errorf("environment, -want +got\n%s", diff)
			}
			if c.stderr.String() != test.doubt {
				t.Errorf("said %q", c.stderr.String())
			}
			if verified := strings.Contains(test.want+strings.Join(test.env, " "), "=CA") || strings.Contains(test.want, " CA "); verified != (c.trusted == authorities) {
				t.Errorf("the program reads %q", c.trusted)
			}
			if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
			if slices.ContainsFunc(c.argv, func(a string) bool {
				return strings.Contains(a, c.vars["OS_PASSWORD"]) || strings.HasPrefix(a, "--password=")
			}) {
				t.Errorf("a password is on the command line: %q", c.argv)
			}
		})
	}
}

func TestConnectByMySQLsClient(t *testing.T) {
	for want, args := range map[string][]string{
		"mysql --ssl-ca=CA --ssl-mode=VERIFY_IDENTITY --host=10.0.0.5 --user=app --password": {"-u", "app"},
		"mysql --ssl-mode=REQUIRED --host=10.0.0.5 --user=app --password":                    {"-u", "app", "--no-verify"},
	} {
		c := connect(ofKind("mysql", nil), ours(), false)
		c.version = "/usr/bin/mysql  Ver 9.7.0 for Linux on x86_64 (MySQL Community Server - GPL)"
		c.must(t, append([]string{"instance", "connect", shopID}, args...)...)
		if got := strings.Join(c.argv, " "); got != want {
			t.Errorf("got %s\nwant %s", got, want)
		}
	}
}

// TestConnectAsRoot: where there is no user the superuser is taken, by the engine's name for it, if it may log in.
func TestConnectAsRoot(t *testing.T) {
	for store, want := range map[string]string{"mariadb": "--user=root", "mysql": "--user=root", "postgresql": "--username=postgres", "redis": "default", "valkey": "default"} {
		c := connect(ofKind(store, nil), ours(), true)
		c.must(t, "instance", "connect", shopID)
		if !slices.Contains(c.argv, want) {
			t.Errorf("%s: %q", store, c.argv)
		}
	}
	c := connect(ofKind("redis", nil), ours(), false)
	message, code := cli.Explain(c.run(t, "instance", "connect", shopID))
	if message != "shop has no user: trove user create shop NAME makes one, trove root enable shop enables default." || code != cli.ExitFailed || c.argv != nil {
		t.Errorf("exit code %d: %q, started %q", code, message, c.argv)
	}
}

// TestConnectTrustsNoSilence: that nobody tells how the database is verified is no reason to let a password go to whoever answers.
func TestConnectTrustsNoSilence(t *testing.T) {
	c := connect(ofKind("mariadb", nil), nil, false)
	message, code := cli.Explain(c.run(t, "instance", "connect", shopID, "-u", "app"))
	if !strings.Contains(message, "--no-verify") || !strings.Contains(message, "The guest does not answer.") || code != cli.ExitFailed || c.argv != nil {
		t.Errorf("exit code %d: %q, started %q", code, message, c.argv)
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
