package fake_test

import (
	"errors"
	"os/exec"
	"testing"

	"github.com/trove-dbaas/trove/engine"
)

// run runs a command to its end and returns its exit code.
func run(t *testing.T, c engine.Command) int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), c.Path, c.Args...)
	cmd.Env, cmd.Dir = c.Env, c.Dir
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0
}
