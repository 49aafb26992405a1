package compat_test

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

//go:embed runner.py
var runnerScript string

// python is an installation of the Python clients, of which one process answers.
type python struct {
	Openstack []string          // commands of the plugin
	Trove     []string          // commands of the old shell
	Versions  map[string]string // of the packages

	conversation
}

// conversation is a process that answers lines of JSON.
type conversation struct {
	in  io.WriteCloser
	out *bufio.Reader
}

type request struct {
	Program string            `json:"program"`
	Args    []string          `json:"args"`
	Env     map[string]string `json:"env"`
}

type result struct {
	Code   int    `json:"code"`
	Output string `json:"output"`
}

// startPython starts the runner in the root file system; "" is this machine's own.
func startPython(t *testing.T, root string) *python {
	t.Helper()
	args := []string{"/usr/bin/python3", "-c", runnerScript}
	if root != "" {
		args = append([]string{"chroot", root}, args...)
	}
	p := &python{conversation: converse(t, exec.CommandContext(t.Context(), args[0], args[1:]...))}
	p.ask(t, struct{}{}, p)
	return p
}

// converse starts the process, and ends it with the test.
func converse(t *testing.T, cmd *exec.Cmd) conversation {
	t.Helper()
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil && t.Context().Err() == nil {
			t.Errorf("the clients' process: %v", err)
		}
	})
	return conversation{in, bufio.NewReader(out)}
}

func (c conversation) ask(t *testing.T, question, answer any) {
	t.Helper()
	line, err := json.Marshal(question)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.in.Write(append(line, '\n')); err != nil {
		t.Fatal(err)
	}
	if line, err = c.out.ReadBytes('\n'); err != nil {
		t.Fatalf("the clients' process ended: %v", err)
	}
	if err := json.Unmarshal(line, answer); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
}

// run carries out a command as the account.
func (p *python) run(t *testing.T, s *server, who login, program string, args []string) result {
	t.Helper()
	var r result
	p.ask(t, request{Program: program, Args: args, Env: map[string]string{
		"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8", "PYTHONWARNINGS": "ignore", "COLUMNS": "400",
		"OS_AUTH_URL": s.authURL, "OS_IDENTITY_API_VERSION": "3", "OS_USERNAME": who.user, "OS_PASSWORD": who.password.Reveal(),
		"OS_PROJECT_NAME": who.project, "OS_USER_DOMAIN_NAME": "Default", "OS_PROJECT_DOMAIN_NAME": "Default", "OS_REGION_NAME": s.region,
	}}, &r)
	return r
}

// newerRoot is the root file system that scripts/client-root.sh makes.
func newerRoot() string {
	if dir := os.Getenv("COMPAT_ROOT"); dir != "" {
		return dir
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(cache, "trove", "clients", "trixie")
}
