package openstack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/tests/openstack"
)

// user is somebody who has Debian's unmodified openstack client, with the plug-ins of Trove and Barbican.
type user struct {
	env []string
}

// as loads the credentials of one of the lab's users: admin, demo, other.
func as(t *testing.T, name string) user {
	t.Helper()
	rc, err := openstack.ReadRC(filepath.Join(state, name+"rc"))
	if err != nil {
		t.Fatal(err)
	}
	u := user{env: []string{"PATH=/usr/bin:/bin", "LANG=C.UTF-8", "HOME=" + t.TempDir()}}
	for k, v := range rc {
		u.env = append(u.env, k+"="+v)
	}
	return u
}

// try runs a command of the client and returns what it printed and what it complained about.
func (u user) try(args ...string) (out, complaint string, err error) {
	// The client waits for ever for a service that hangs. The context of the test is over when its cleanups run.
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "/usr/bin/openstack", args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = u.env, &stdout, &stderr
	err = cmd.Run()
	return stdout.String(), stderr.String(), err
}

// run is try of a command that must succeed.
func (u user) run(t *testing.T, args ...string) string {
	t.Helper()
	out, complaint, err := u.try(args...)
	if err != nil {
		t.Fatalf("openstack %s: %v\n%s%s", strings.Join(args, " "), err, out, complaint)
	}
	return out
}

// table runs a command that prints rows.
func (u user) table(t *testing.T, args ...string) []map[string]any {
	t.Helper()
	return parsed[[]map[string]any](t, u, args)
}

// thing runs a command that prints one thing.
func (u user) thing(t *testing.T, args ...string) map[string]any {
	t.Helper()
	return parsed[map[string]any](t, u, args)
}

func parsed[T any](t *testing.T, u user, args []string) T {
	t.Helper()
	var v T
	out := u.run(t, append(args, "-f", "json")...)
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("openstack %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return v
}
