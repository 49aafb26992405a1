package app_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/identity"
	"github.com/trove-dbaas/trove/internal/app"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

func identityConfig(t *testing.T) (config.Config, *sqlstore.Store) {
	t.Helper()
	cfg := config.Default()
	cfg.State = t.TempDir()
	if err := os.Mkdir(filepath.Join(cfg.State, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	st, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(cfg.State, "store.db"), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return cfg, st
}

// With Keystone nobody can log in here, and no account is made.
func TestKeystoneInPlaceOfTheLocalIdentity(t *testing.T) {
	asked := make(chan string, 1)
	fake := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.URL.Path
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer fake.Close()
	cfg, st := identityConfig(t)
	cfg.Identity.Driver, cfg.Identity.AuthURL, cfg.Identity.PublicAuthURL = config.IdentityKeystone, fake.URL+"/v3", "https://keystone.example/v3"
	if _, _, _, err := app.OpenIdentity(t.Context(), cfg, st); err == nil || !strings.Contains(err.Error(), "identity.password_file") {
		t.Fatalf("without the password's file: %v", err)
	}
	file := filepath.Join(cfg.State, "keys", "keystone-password")
	if err := os.WriteFile(file, []byte("swordfish\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := app.OpenIdentity(t.Context(), cfg, st); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Fatalf("with a file that everybody may read: %v", err)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	id, logins, closeAll, err := app.OpenIdentity(t.Context(), cfg, st)
	if err != nil {
		t.Fatal(err)
	}
	if logins != nil || id.AuthURL() != "https://keystone.example/v3" {
		t.Errorf("one can log in here, or clients are sent to %s", id.AuthURL())
	}
	if _, err := id.Authenticate(t.Context(), identity.Tokens{User: "token"}); trove.KindOf(err) != trove.KindUnavailable {
		t.Errorf("a token while Keystone is away: %v", err)
	}
	select {
	case got := <-asked:
		if got != "POST /v3/auth/tokens" {
			t.Errorf("asked %s", got)
		}
	case <-time.After(10 * time.Second):
		t.Error("Keystone was not asked")
	}
	if _, err := os.Stat(filepath.Join(cfg.State, "openrc")); !os.IsNotExist(err) {
		t.Errorf("openrc: %v", err)
	}
	if err := closeAll(); err != nil {
		t.Error(err)
	}
}

func TestLocalIdentityIsServed(t *testing.T) {
	cfg, st := identityConfig(t)
	id, logins, closeAll, err := app.OpenIdentity(t.Context(), cfg, st)
	if err != nil || logins == nil || !strings.HasSuffix(id.AuthURL(), "/identity/v3") {
		t.Fatalf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(cfg.State, "openrc")); err != nil {
		t.Error(err)
	}
	if err := closeAll(); err != nil {
		t.Error(err)
	}
}
