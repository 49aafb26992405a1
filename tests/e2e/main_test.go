package e2e_test

import (
	"fmt"
	"os"
	"testing"

	deploy "github.com/trove-dbaas/trove/tests/deployment"
)

// TestMain builds the binaries as they are shipped, and removes the shared deployment in the end.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "the end-to-end tests need root: they make sandboxes, volumes and networks")
		os.Exit(1)
	}
	if err := deploy.Build(repository); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if shared.d != nil {
		if _, err := shared.d.try("dev", "destroy", "--state", shared.d.state, "--force"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
