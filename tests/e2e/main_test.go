package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	trove "github.com/trove-dbaas/trove"
)

func secret(s string) trove.Secret { return trove.Secret(s) }

// TestMain builds the binaries as they are shipped, and removes the shared deployment in the end.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "the end-to-end tests need root: they make sandboxes, volumes and networks")
		os.Exit(1)
	}
	build := exec.Command("make", "-s", "build")
	build.Dir, build.Stdout, build.Stderr = repository, os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build the binaries:", err)
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
