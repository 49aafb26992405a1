package postgresql_test

import (
	"context"
	"crypto/tls"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/enginetest"
)

// psql runs the server's own client over TLS. The password is in a file.
func psql(t *testing.T, l engine.Layout, user, password, statement string) (string, error) {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/psql")
	if err != nil || len(found) == 0 {
		t.Fatalf("there is no psql: %v", err)
	}
	pass := filepath.Join(t.TempDir(), "pass")
	must(t, os.WriteFile(pass, []byte("*:*:*:*:"+strings.NewReplacer(`\`, `\\`, ":", `\:`).Replace(password)+"\n"), 0o600))
	cmd := exec.CommandContext(t.Context(), found[len(found)-1], "--no-psqlrc", "-Atqc", statement, "host="+l.Address+" user="+user+" dbname=postgres sslmode=require connect_timeout=10")
	cmd.Env = []string{"PGPASSFILE=" + pass, "PGCLIENTENCODING=UTF8", "LANG=C.UTF-8", "HOME=/nonexistent"}
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// TestTLSModes goes through what each mode lets in, with real clients: without TLS, with it, and with a certificate too. No change needs a restart.
func TestTLSModes(t *testing.T) {
	p := shop()
	p.RootPassword = "pw-root"
	s := prepared(t, p)
	source := newEngine()
	srv := enginetest.Start(t, s)
	cert, key := enginetest.Certificate(t, "client")
	pair, err := tls.X509KeyPair(cert, key)
	must(t, err)
	stranger, strangerKey := enginetest.Certificate(t, "stranger")
	other, err := tls.X509KeyPair(stranger, strangerKey)
	must(t, err)
	configs := map[string]*tls.Config{
		"plain": nil, "TLS": believing, "a certificate": {InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}},
		"a stranger's": {InsecureSkipVerify: true, Certificates: []tls.Certificate{other}},
	}
	before := client(t, s.Layout, "alice", "pw-a", "shop")
	for _, step := range []struct {
		change engine.TLSChange
		in     string
	}{
		{engine.TLSChange{Mode: engine.TLSBasic}, "plain, TLS, a certificate, a stranger's"},
		{engine.TLSChange{Mode: engine.TLSEnforced}, "TLS, a certificate, a stranger's"},
		{engine.TLSChange{Mode: engine.TLSMutual, CA: cert}, "a certificate"},
		{engine.TLSChange{Off: true}, "plain"},
		{engine.TLSChange{Mode: engine.TLSMutual, CA: cert}, "a certificate"},
		{engine.TLSChange{Mode: engine.TLSBasic}, "plain, TLS, a certificate, a stranger's"},
	} {
		restart, err := source.SetTLS(t.Context(), s.Layout, step.change)
		if err != nil || restart {
			t.Fatalf("%+v: restart %t, %v", step.change, restart, err)
		}
		for range 2 {
			for user, password := range map[string]string{"alice": "pw-a", "postgres": "pw-root"} {
				for what, config := range configs {
					if err := knock(t.Context(), s.Layout, user, password, config); (err == nil) != strings.Contains(step.in, what) {
						t.Errorf("off %t, %s: %s with %s: %v", step.change.Off, step.change.Mode, user, what, err)
					}
				}
			}
			if before != nil {
				wantAnswer(t, before, "SELECT 1", "1") // open connections go on
				before = nil
			}
			srv.Stop()
			srv = enginetest.Start(t, s)
		}
	}
}

func knock(ctx context.Context, l engine.Layout, user, password string, c *tls.Config) error {
	if c != nil {
		c = c.Clone()
	}
	conn, err := connect(ctx, l, user, trove.Secret(password), "shop", c)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}
