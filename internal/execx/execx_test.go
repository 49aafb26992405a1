package execx_test

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/internal/execx"
)

func TestRunReturnsOutput(t *testing.T) {
	out, err := execx.Run(t.Context(), execx.Cmd{Path: "sh", Args: []string{"-c", "cat; echo b"}, Stdin: strings.NewReader("a\n")})
	if err != nil || string(out) != "a\nb\n" {
		t.Fatalf("Run() = %q, %v", out, err)
	}
}

func TestRunErrorShowsWhatTheProgramSaid(t *testing.T) {
	_, err := execx.Run(t.Context(), execx.Cmd{Path: "sh", Args: []string{"-c", "echo the disk is full >&2; exit 7"}})
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != 7 || !strings.Contains(err.Error(), "the disk is full") {
		t.Fatalf("Run() = %v, want exit 7 with the program's words", err)
	}
}

func TestRunDoesNotInheritTheEnvironment(t *testing.T) {
	t.Setenv("TROVE_TEST_SECRET", "s3cret")
	out, err := execx.Run(t.Context(), execx.Cmd{Path: "env"})
	if err != nil || strings.Contains(string(out), "s3cret") {
		t.Fatalf("the child saw the environment of this process: %q, %v", out, err)
	}
}

func TestRunEndsTheWholeGroupWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := execx.Run(ctx, execx.Cmd{Path: "sh", Args: []string{"-c", "sleep 60 & wait"}})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Run() = %v, want a deadline", err)
	}
}
