// Package attacks_test attacks a real deployment from inside a guest: a program that has everything which somebody has who took over the agent, in the
// agent's own sandbox. Each attack is tried for real (a control on the guest's own things shows that it would work), fails, costs the neighbour no query, and
// is seen where it can be seen. docs/security/attacks.md is the list.
package attacks_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	deploy "github.com/trove-dbaas/trove/tests/deployment"
)

var repository = func() string {
	dir, err := filepath.Abs("../..")
	if err != nil {
		panic(err)
	}
	return dir
}()

// TestMain builds the binaries as they are shipped and the attacker, and removes the deployment in the end.
func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "the attacks need root: they make sandboxes, volumes and networks")
		return 1
	}
	dir, err := os.MkdirTemp("", "attacks-*")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		err = deploy.Build(repository)
	}
	if err == nil {
		program = filepath.Join(dir, "attacker")
		build := exec.Command("go", "build", "-trimpath", "-o", program, "./attacker")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		err = build.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := removeSite(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}
