package app

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/trove-dbaas/trove/internal/config"
)

// TestTheServiceLogsInWithAnotherPasswordThanTheBootstrap: the password is the first line of the file for both, with its spaces.
func TestTheServiceLogsInWithAnotherPasswordThanTheBootstrap(t *testing.T) {
	cfg := config.Default()
	cfg.OpenStack.PasswordFile = filepath.Join(t.TempDir(), "password")
	for _, c := range []struct{ text, want string }{{"secret\n", "secret"}, {"secret", "secret"}, {" secret \r\nof the service user\n", " secret "}} {
		if err := os.WriteFile(cfg.OpenStack.PasswordFile, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := openStackPassword(cfg)(); err != nil || got.Reveal() != c.want {
			t.Errorf("of %q: %q, %v", c.text, got.Reveal(), err)
		}
	}
}
