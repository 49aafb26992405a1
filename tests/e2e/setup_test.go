package e2e_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/tests/hostcheck"
)

// demo runs a make target with a state directory of the test.
func makeTarget(t *testing.T, target, state, listen string) (string, time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 12*time.Minute)
	defer cancel()
	started := time.Now()
	cmd := exec.CommandContext(ctx, "make", target, "FORCE=1")
	cmd.Dir = repository
	cmd.Env = append(os.Environ(), "STATE="+state, "FORCE=1", "TROVE_API_LISTEN="+listen)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("make %s: %v\n%s", target, err, out)
	}
	return string(out), time.Since(started)
}

// TestDemo is the README's first command: from nothing to a row; again in seconds; stop leaves the databases; destroy leaves nothing.
func TestDemo(t *testing.T) {
	before := hostcheck.Take(t.Context(), t)
	state, listen := filepath.Join(repository, "var", "e2e-demo"), freePort()
	t.Cleanup(func() { makeTarget(t, "destroy", state, listen) })
	out, took := makeTarget(t, "demo", state, listen)
	t.Logf("the first make demo took %s", took.Round(time.Second))
	for _, want := range []string{"hello from a real database", "mariadb --defaults-extra-file=", listen, "make stop", "instance list"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	out, took = makeTarget(t, "demo", state, listen)
	t.Logf("the second make demo took %s", took.Round(time.Second))
	if took > 60*time.Second || !strings.Contains(out, "hello from a real database") {
		t.Errorf("the second make demo took %s:\n%s", took, out)
	}
	makeTarget(t, "stop", state, listen)
	address := between(t, out, "--host=", " app")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	query := exec.CommandContext(ctx, "mariadb", "--defaults-extra-file="+filepath.Join(state, "demo.cnf"), "--host="+address, "app", "-e", "SELECT 1")
	if out, err := query.CombinedOutput(); err != nil {
		t.Errorf("after make stop the database does not answer: %v %s", err, out)
	}
	makeTarget(t, "destroy", state, listen)
	if left := hostcheck.Left(before, hostcheck.Take(t.Context(), t)); len(left) > 0 {
		t.Errorf("make destroy left on the machine:\n  %s", strings.Join(left, "\n  "))
	}
}

func between(t *testing.T, s, a, b string) string {
	t.Helper()
	_, rest, ok := strings.Cut(s, a)
	if !ok {
		t.Fatalf("no %q in:\n%s", a, s)
	}
	found, _, ok := strings.Cut(rest, b)
	if !ok {
		t.Fatalf("no %q after %q", b, a)
	}
	return found
}

func TestASecondControlPlaneIsRefused(t *testing.T) {
	d := sharedDeployment(t)
	_, err := d.try("dev", "run", "--state", d.state, "--listen", freePort())
	if err == nil || !strings.Contains(err.Error(), "already runs from") {
		t.Errorf("a second control plane: %v", err)
	}
}

func TestATakenPortIsASentence(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	before := hostcheck.Take(t.Context(), t)
	d := &deployment{t: t, state: filepath.Join(t.TempDir(), "state")}
	_, err = d.try("dev", "start", "--state", d.state, "--listen", l.Addr().String())
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) || strings.Contains(err.Error(), "goroutine") {
		t.Errorf("a taken port: %v", err)
	}
	d.destroy(t, before)
}

func TestWithoutRootOneSentenceSaysSo(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary("trove"), "dev", "run", "--state", filepath.Join(dir, "state"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "root") || strings.Count(strings.TrimSpace(string(out)), "\n") > 1 {
		t.Errorf("without root: %v\n%s", err, out)
	}
	if entries, _ := os.ReadDir(filepath.Join(dir, "state")); len(entries) > 0 {
		t.Errorf("half-made: %v", entries)
	}
}

// TestSideBySide runs a second deployment beside the shared one; its end leaves the first alone.
func TestSideBySide(t *testing.T) {
	first := sharedDeployment(t)
	i := first.create("beside-1")
	stop := query20Hz(t, open(t, i, "app", password, "app"))
	before := hostcheck.Take(t.Context(), t)
	second, err := newDeployment(filepath.Join(repository, "var", "e2e-second"))
	if err != nil {
		t.Fatal(err)
	}
	second.t = t
	j := second.createKept("beside-2")
	if j.Addresses[0].Address == i.Addresses[0].Address {
		t.Errorf("both deployments use %s", j.Addresses[0].Address)
	}
	if err := open(t, j, "app", password, "app").PingContext(t.Context()); err != nil {
		t.Error(err)
	}
	second.destroy(t, before)
	if failed := stop(); failed > 0 {
		t.Errorf("%d queries of the first deployment failed", failed)
	}
}
