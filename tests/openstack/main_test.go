package openstack_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/tests/openstack"
)

var (
	// state is the lab's directory.
	state = os.Getenv("LAB_STATE")
	// unique makes names that no other run has.
	unique = strings.ToLower(rand.Text()[:8])

	repository = func() string {
		dir, err := filepath.Abs("../..")
		if err != nil {
			panic(err)
		}
		return dir
	}()
)

// TestMain refuses to run without the lab: these tests are nothing where they are skipped.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || state == "" {
		fmt.Fprintln(os.Stderr, "the tests on OpenStack need root and a lab, whose directory LAB_STATE names: make e2e-openstack brings one up and runs them")
		os.Exit(1)
	}
	code := m.Run()
	if code != 0 {
		complaints(os.Stderr)
	}
	os.Exit(code)
}

// complaints prints the last warnings and errors of the lab's services, without the traces below them: a test that failed may have met a fault of the cloud, and its logs
// go with the lab.
func complaints(out io.Writer) {
	const most, longest = 6, 300
	logs, _ := filepath.Glob(filepath.Join(state, "log", "*.log")) // the pattern is right
	for _, name := range logs {
		data, err := os.ReadFile(name)
		if err != nil {
			continue // it is what can be said besides
		}
		var found []string
		for line := range strings.Lines(string(data)) {
			if (strings.Contains(line, " WARNING ") || strings.Contains(line, " ERROR ")) && strings.Contains(line, " [") {
				found = append(found, strings.TrimSpace(line[:min(len(line), longest)]))
			}
		}
		if len(found) > 0 {
			fmt.Fprintf(out, "%s complained last:\n%s\n", filepath.Base(name), strings.Join(found[max(0, len(found)-most):], "\n"))
		}
	}
}

func lab(t *testing.T) *openstack.Cloud {
	t.Helper()
	c, err := openstack.Open(t.Context(), state)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func take(t *testing.T, c *openstack.Cloud) openstack.Inventory {
	t.Helper()
	inv, err := c.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return withoutOthers(inv)
}

// shared says that others use the lab too: nothing of ours is in its catalogue, where the official client would look for it, and of its inventory only what is ours can be compared. The
// move from a Python Trove can be run there.
var shared = os.Getenv("LAB_SHARED") != ""

// nothingLeft compares the inventory with the one before. Ids are ours: all that counts on a shared lab.
func nothingLeft(t *testing.T, c *openstack.Cloud, before openstack.Inventory, ids ...string) {
	t.Helper()
	if shared && len(ids) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 3*time.Minute)
	defer cancel()
	difference, err := c.Settled(ctx, before, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if shared {
		difference = slices.DeleteFunc(difference, func(line string) bool {
			return !slices.ContainsFunc(ids, func(id string) bool { return strings.Contains(line, id) || strings.HasSuffix(line, "tap"+id[:11]) })
		})
	}
	if len(difference) > 0 {
		t.Errorf("the cloud is not as it was (+ came, - went):\n%s", strings.Join(difference, "\n"))
	}
}

// eventually asks until the condition holds.
func eventually(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !holds(); time.Sleep(300 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s for %s", limit, what)
		}
	}
}
