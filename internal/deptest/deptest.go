// Package deptest keeps what a binary links a decision: it fails a test when a program links a package that it must not, with the reason, and when the
// list of linked modules beside the wiring is not what is linked, so that a new one shows up in the change that caused it.
//
// It asks the go command, for the platform that releases are built for. Functions may be called from several goroutines.
package deptest

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/internal/execx"
)

// Update is the environment variable that makes Modules write the list instead of comparing it.
const Update = "TROVE_UPDATE_MODULES"

// Reasons are import paths that must not be linked, each with why. A path stands for everything below it too.
type Reasons map[string]string

// MustNotLink fails the test for each package of the program that is, or lies below, one of the paths.
func MustNotLink(t testing.TB, program string, not Reasons) {
	t.Helper()
	if len(not) == 0 {
		t.Fatal("no package is forbidden: the test cannot fail")
	}
	packages := list(t, program, "{{.ImportPath}}")
	for _, p := range packages {
		for path, why := range not {
			if p == path || strings.HasPrefix(p, path+"/") {
				t.Errorf("%s links %s: %s (`go mod why %s` shows the way)", program, p, why, p)
			}
		}
	}
}

// Modules fails the test unless the file lists the modules that the program links, one a line, without versions. With the variable Update set it
// writes the file.
func Modules(t testing.TB, program, file string) {
	t.Helper()
	got := strings.Join(list(t, program, "{{with .Module}}{{.Path}}{{end}}"), "\n") + "\n"
	if os.Getenv(Update) != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil { //nolint:gosec // a source file
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if string(want) == got {
		return
	}
	before, now := strings.Fields(string(want)), strings.Fields(got)
	for _, m := range now {
		if !slices.Contains(before, m) {
			t.Errorf("%s links a new module, %s: is it worth it? Then run this test with %s=1", program, m, Update)
		}
	}
	for _, m := range before {
		if !slices.Contains(now, m) {
			t.Errorf("%s no longer links %s: run this test with %s=1", program, m, Update)
		}
	}
}

// list returns what the go command says of all packages that the program links, sorted, each once.
func list(t testing.TB, program, format string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	env := append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	out, err := execx.Run(ctx, execx.Cmd{Path: "go", Args: []string{"list", "-deps", "-f", format, program}, Env: env})
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(out))
	slices.Sort(lines)
	return slices.Compact(lines)
}
