package deptest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trove-dbaas/trove/internal/deptest"
)

// record is a test that notes what it is failed with.
type record struct {
	testing.TB
	said []string
}

func (r *record) Helper()                   {}
func (r *record) Errorf(f string, a ...any) { r.said = append(r.said, fmt.Sprintf(f, a...)) }

const program = "github.com/trove-dbaas/trove/bus" // links the standard library and the root package

func TestForbiddenPackageFailsWithTheReason(t *testing.T) {
	r := &record{TB: t}
	deptest.MustNotLink(r, program, deptest.Reasons{"github.com/trove-dbaas/trove": "because of this", "example.org/absent": "never"})
	if len(r.said) == 0 || !strings.Contains(r.said[0], "because of this") || strings.Contains(strings.Join(r.said, ""), "never") {
		t.Errorf("it said %q", r.said)
	}
	r = &record{TB: t}
	deptest.MustNotLink(r, program, deptest.Reasons{"contex": "a prefix of a name is no path above it"})
	if len(r.said) != 0 {
		t.Errorf("it said %q", r.said)
	}
}

func TestModulesAreCompared(t *testing.T) {
	file := filepath.Join(t.TempDir(), "modules.txt")
	for _, c := range []struct {
		name, content, want string
	}{
		{"new", "", "links a new module, github.com/trove-dbaas/trove"},
		{"gone", "example.org/old\ngithub.com/trove-dbaas/trove\n", "no longer links example.org/old"},
		{"equal", "github.com/trove-dbaas/trove\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			r := &record{TB: t}
			deptest.Modules(r, program, file)
			said := strings.Join(r.said, "\n")
			if (c.want == "") != (said == "") || !strings.Contains(said, c.want) {
				t.Errorf("it said %q, not %q", said, c.want)
			}
		})
	}
	t.Run("update", func(t *testing.T) {
		t.Setenv(deptest.Update, "1")
		deptest.Modules(t, program, file)
		data, err := os.ReadFile(file)
		if err != nil || string(data) != "github.com/trove-dbaas/trove\n" {
			t.Errorf("the file holds %q, %v", data, err)
		}
	})
}
