package sqlstore_test

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/tests/dbserver"
)

func TestParseURL(t *testing.T) {
	for text, want := range map[string]sqlstore.Server{
		"postgresql://trove@db.example.org/trove":       {Driver: "postgresql", Hosts: []string{"db.example.org:5432"}, User: "trove", Database: "trove"},
		"mariadb://a%40b@[2001:db8::1],h:33/d":          {Driver: "mariadb", Hosts: []string{"[2001:db8::1]:3306", "h:33"}, User: "a@b", Database: "d"},
		"postgresql://u@/d?socket=/run/postgresql":      {Driver: "postgresql", Socket: "/run/postgresql", User: "u", Database: "d"},
		"mariadb://u@/d?socket=/run/mysqld/mysqld.sock": {Driver: "mariadb", Socket: "/run/mysqld/mysqld.sock", User: "u", Database: "d"},
	} {
		got, err := sqlstore.ParseURL(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if d := cmp.Diff(want, *got); d != "" {
			t.Errorf("%s: %s", text, d)
		}
	}
	for text, want := range map[string]string{
		"mysql://u@h/d":               "begin with",
		"postgresql://u:secret@h/d":   "password",
		"postgresql://h/d":            "no user",
		"postgresql://u@h":            "no database",
		"postgresql://u@h/d/e":        "no database",
		"postgresql://u@h/d?ssl=on":   `"ssl"`,
		"postgresql://u@/d":           "either hosts or",
		"mariadb://u@h/d?socket=/s":   "either hosts or",
		"mariadb://u@/d?socket=s":     "either hosts or",
		"mariadb://u@h,,i/d":          "not a host",
		"mariadb://u@[2001:db8::1/d":  "not a host",
		"postgresql://u@h/d?socket=%": "not a URL",
	} {
		_, err := sqlstore.ParseURL(text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want one with %q", text, err, want)
		}
	}
}

// TestServerOverTLS: the certificate must be one that is believed, for the host that was asked for.
func TestServerOverTLS(t *testing.T) {
	for _, kind := range dbserver.Kinds {
		t.Run(kind, func(t *testing.T) {
			server := dbserver.Start(t, kind, dbserver.Options{TLS: true})
			strange := filepath.Join(t.TempDir(), "strange.pem")
			if _, err := dbserver.WriteCertificate(strange, "127.0.0.1"); err != nil {
				t.Fatal(err)
			}
			for name, c := range map[string]struct {
				files sqlstore.TLSFiles
				host  string
				fails bool
			}{
				"verified":           {sqlstore.TLSFiles{Mode: "verify", CA: server.CA()}, "127.0.0.1", false},
				"another CA":         {sqlstore.TLSFiles{Mode: "verify", CA: strange}, "127.0.0.1", true},
				"the system's CAs":   {sqlstore.TLSFiles{Mode: "verify"}, "127.0.0.1", true},
				"another name":       {sqlstore.TLSFiles{Mode: "verify", CA: server.CA()}, "localhost", true},
				"any certificate":    {sqlstore.TLSFiles{Mode: "require"}, "127.0.0.1", false},
				"near, nothing said": {sqlstore.TLSFiles{}, "127.0.0.1", false},
			} {
				cfg := *server.Database(t)
				cfg.Hosts = []string{strings.Replace(cfg.Hosts[0], "127.0.0.1", c.host, 1)}
				if err := cfg.UseTLS(c.files); err != nil {
					t.Fatal(err)
				}
				s, err := sqlstore.Open(t.Context(), sqlstore.Config{Server: &cfg})
				if (err != nil) != c.fails {
					t.Errorf("%s: %v", name, err)
				}
				if err == nil {
					_ = s.Close()
				}
			}
		})
	}
}

func TestTLSIsVerifiedUnlessItIsSaidOtherwise(t *testing.T) {
	far, near := sqlstore.Server{Hosts: []string{"127.0.0.1:1", "db:1"}}, sqlstore.Server{Hosts: []string{"127.0.0.1:1", "[::1]:1", "localhost:1"}}
	for _, s := range []*sqlstore.Server{&far, &near} {
		if err := s.UseTLS(sqlstore.TLSFiles{}); err != nil {
			t.Fatal(err)
		}
	}
	if near.TLS != nil || far.TLS == nil || far.TLS.InsecureSkipVerify || far.TLS.MinVersion < tls.VersionTLS12 {
		t.Errorf("near %v, far %v", near.TLS, far.TLS)
	}
	if err := far.UseTLS(sqlstore.TLSFiles{Mode: "perhaps"}); err == nil {
		t.Error("an unknown mode was taken")
	}
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := far.UseTLS(sqlstore.TLSFiles{CA: empty}); err == nil {
		t.Error("a file without a certificate was taken")
	}
}

// TestTheFirstHostThatAnswersIsUsed: hosts that are away are passed over.
func TestTheFirstHostThatAnswersIsUsed(t *testing.T) {
	onServers(t, func(t *testing.T, server *sqlstore.Server) {
		several := *server
		several.Hosts = append([]string{"127.0.0.1:9"}, server.Hosts...)
		if err := pair(t.Context(), open(t, sqlstore.Config{Server: &several}), "x"); err != nil {
			t.Error(err)
		}
	})
}

// TestThePasswordIsReadForEachConnection: it can be replaced while the service runs.
func TestThePasswordIsReadForEachConnection(t *testing.T) {
	onServers(t, func(t *testing.T, server *sqlstore.Server) {
		asked := 0
		right, err := server.Password()
		if err != nil {
			t.Fatal(err)
		}
		cfg := *server
		cfg.Password = func() (trove.Secret, error) { asked++; return right, nil }
		open(t, sqlstore.Config{Server: &cfg})
		if asked < 3 {
			t.Errorf("it was asked for %d times", asked)
		}
		cfg.Password = func() (trove.Secret, error) { return "wrong-" + right, nil }
		_, err = sqlstore.Open(t.Context(), sqlstore.Config{Server: &cfg})
		if err == nil || strings.Contains(err.Error(), right.Reveal()) {
			t.Errorf("with the wrong password: %v", err)
		}
	})
}
