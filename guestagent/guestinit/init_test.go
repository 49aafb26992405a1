package guestinit_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/guestagent/guestinit"
	"github.com/trove-dbaas/trove/guestagent/process"
	"github.com/trove-dbaas/trove/guestagent/slots"
)

const (
	roleVariable = "GUESTINIT_TEST_CONFIG" // makes this test's binary an init
	patience     = time.Minute
)

func TestMain(m *testing.M) {
	if os.Getenv(slots.EnvInit) != "" {
		os.Exit(runAgent()) //nolint:forbidigo // this is the main function of a test's own program
	}
	if text := os.Getenv(roleVariable); text != "" {
		os.Exit(runInit(text)) //nolint:forbidigo // this is the main function of a test's own program
	}
	goleak.VerifyTestMain(m)
}

func runInit(text string) int {
	var cfg guestinit.Config
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := guestinit.Run(context.Background(), cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// sandbox is a running init whose agent is a shell script.
type sandbox struct {
	t   *testing.T
	dir string
	cmd *exec.Cmd
	out chan struct{}
}

// inAllWays runs a test with an init that is the first process of a namespace, as in a sandbox, and with one that merely adopts orphans.
func inAllWays(t *testing.T, agent string, do func(t *testing.T, s *sandbox)) {
	t.Run("subreaper", func(t *testing.T) { do(t, start(t, agent, false)) })
	t.Run("first process", func(t *testing.T) {
		if os.Getuid() != 0 {
			t.Skip("a process namespace needs root")
		}
		do(t, start(t, agent, true))
	})
}

func start(t *testing.T, agent string, namespace bool) *sandbox {
	t.Helper()
	return startIn(t, t.TempDir(), agent, namespace, func(*guestinit.Config) {})
}

// startIn starts an init with a runtime directory and a changed configuration.
func startIn(t *testing.T, dir, agent string, namespace bool, change func(*guestinit.Config)) *sandbox {
	t.Helper()
	s := &sandbox{t: t, dir: dir, out: make(chan struct{})}
	c := guestinit.Config{
		Agent: "/bin/sh", Args: []string{"-c", agent}, Runtime: s.dir, Subreaper: !namespace,
		BackoffMin: 10 * time.Millisecond, BackoffMax: 50 * time.Millisecond, AgentGrace: patience,
	}
	change(&c)
	cfg, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.Command(self)
	if namespace {
		s.cmd = exec.Command("unshare", "--pid", "--mount-proc", "--fork", "--kill-child", self)
	}
	s.cmd.Env = append(os.Environ(), roleVariable+"="+string(cfg), "RUN="+s.dir, "GORACE=atexit_sleep_ms=0")
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	log, err := os.OpenFile(filepath.Join(s.dir, "init.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s.cmd.Stderr = log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.out)
		_ = s.cmd.Wait() // how it ended is in ProcessState
	}()
	t.Cleanup(func() {
		_ = unix.Kill(-s.cmd.Process.Pid, unix.SIGKILL)
		<-s.out
		if t.Failed() {
			t.Logf("init said:\n%s", s.file("init.log"))
		}
	})
	return s
}

func (s *sandbox) file(name string) string {
	data, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		return ""
	}
	return string(data)
}

func (s *sandbox) until(what string, ok func() bool) {
	s.t.Helper()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-time.After(2 * time.Millisecond):
		case <-deadline:
			s.t.Fatalf("waited %s for: %s", patience, what)
		}
	}
}

// pid returns init's process as this test sees it.
func (s *sandbox) pid() int {
	s.t.Helper()
	if filepath.Base(s.cmd.Path) != "unshare" {
		return s.cmd.Process.Pid
	}
	kids := children(s.t, s.cmd.Process.Pid)
	if len(kids) != 1 {
		s.t.Fatalf("unshare has the children %v", kids)
	}
	return kids[0]
}

// children returns the children of all threads of a process.
func children(t *testing.T, pid int) []int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task/*/children"))
	if err != nil {
		t.Fatal(err)
	}
	var all []int
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for f := range strings.FieldsSeq(string(data)) {
			n, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, n)
		}
	}
	return all
}

// terminate sends SIGTERM to init and returns its exit code.
func (s *sandbox) terminate() int {
	s.t.Helper()
	if err := unix.Kill(s.pid(), unix.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	select {
	case <-s.out:
	case <-time.After(patience):
		s.t.Fatalf("init did not end within %s", patience)
	}
	return s.cmd.ProcessState.ExitCode()
}

func TestAgentIsStartedAgain(t *testing.T) {
	inAllWays(t, `echo run >>"$RUN/runs"; exec sleep 1000`, func(t *testing.T, s *sandbox) {
		for n := 1; n <= 3; n++ {
			s.until("run "+strconv.Itoa(n), func() bool { return strings.Count(s.file("runs"), "run") == n })
			kids := children(t, s.pid())
			if len(kids) != 1 {
				t.Fatalf("init has the children %v", kids)
			}
			if err := unix.Kill(kids[0], unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		s.until("run 4", func() bool { return strings.Count(s.file("runs"), "run") == 4 })
		if code := s.terminate(); code != 0 {
			t.Errorf("init ended with %d", code)
		}
	})
}

func TestOrphansAreReaped(t *testing.T) {
	// Twenty children lose their parent and end; the agent goes on.
	agent := `for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do (sh -c 'echo o >>"$RUN/orphans"' &) ; done; exec sleep 1000`
	inAllWays(t, agent, func(t *testing.T, s *sandbox) {
		s.until("all orphans", func() bool { return strings.Count(s.file("orphans"), "o") == 20 })
		s.until("one child left", func() bool { return len(children(t, s.pid())) == 1 })
		s.terminate()
	})
}

// engineAgent is an agent that starts an engine as its own session and notes it as the real one does. The engine has a time to stop.
func engineAgent(onTerm string, limit time.Duration) string {
	return `trap 'echo agent stopped >>"$RUN/order"; exit 0' TERM
		setsid sh -c 'trap "` + onTerm + `" TERM; echo up >"$RUN/up"; while :; do sleep 0.01; done' &
		echo "$! $(cut -d' ' -f22 /proc/$!/stat) 0" >"$RUN/engine.pid"
		echo ` + limit.String() + ` >"$RUN/engine.stop-timeout"
		while :; do sleep 0.01; done`
}

func TestEngineIsStoppedBeforeTheAgent(t *testing.T) {
	onTerm := `ls \"$RUN/stopping\" >/dev/null && echo engine stopped >>\"$RUN/order\"; exit 0`
	inAllWays(t, engineAgent(onTerm, patience), func(t *testing.T, s *sandbox) {
		s.until("the engine", func() bool { return s.file("up") != "" && s.file("engine.stop-timeout") != "" })
		if code := s.terminate(); code != 0 {
			t.Errorf("init ended with %d", code)
		}
		if got, want := s.file("order"), "engine stopped\nagent stopped\n"; got != want {
			t.Errorf("the order was %q, not %q", got, want)
		}
	})
}

// TestEngineIsStoppedByItsOwnSignal: SIGTERM would make PostgreSQL wait for its clients. A shell's background process ignores SIGINT unless it is told otherwise.
// In a virtual machine the service may be killed while the machine goes on: the next one starts an agent, and there must not be two.
func TestAgentEndsWithInitAndTheEngineDoesNot(t *testing.T) {
	s := start(t, engineAgent("exit 0", patience), false)
	s.until("the engine", func() bool { return s.file("up") != "" && s.file("engine.stop-timeout") != "" })
	ref, err := process.ReadFile(filepath.Join(s.dir, "engine.pid"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Kill(ref.PID, unix.SIGKILL) })
	if err := unix.Kill(s.pid(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.until("the end of the agent", func() bool { return s.file("order") == "agent stopped\n" })
	if !ref.Alive() {
		t.Error("the engine ended with init")
	}
}

func TestEngineIsStoppedByItsOwnSignal(t *testing.T) {
	agent := strings.Replace(engineAgent(`echo by SIGTERM >>\"$RUN/order\"; exit 0`, patience), `" TERM; echo up`, `" TERM; trap "echo by SIGINT >>\"$RUN/order\"; exit 0" INT; echo up`, 1)
	agent = strings.Replace(agent, "setsid sh", "env --default-signal=INT setsid sh", 1)
	agent = strings.Replace(agent, "echo "+patience.String(), `echo 2 >"$RUN/engine.stop-signal"; echo `+patience.String(), 1)
	inAllWays(t, agent, func(t *testing.T, s *sandbox) {
		s.until("the engine", func() bool { return s.file("up") != "" && s.file("engine.stop-timeout") != "" })
		if code := s.terminate(); code != 0 {
			t.Errorf("init ended with %d", code)
		}
		if got, want := s.file("order"), "by SIGINT\nagent stopped\n"; got != want {
			t.Errorf("the order was %q, not %q", got, want)
		}
	})
}

func TestEngineThatDoesNotStopIsKilled(t *testing.T) {
	inAllWays(t, engineAgent("true", 300*time.Millisecond), func(t *testing.T, s *sandbox) {
		s.until("the engine", func() bool { return s.file("up") != "" && s.file("engine.stop-timeout") != "" })
		began := time.Now()
		if code := s.terminate(); code != 1 {
			t.Errorf("init ended with %d", code)
		}
		if took := time.Since(began); took < 300*time.Millisecond {
			t.Errorf("the engine was killed after %s", took)
		}
		if !strings.Contains(s.file("init.log"), "was killed") {
			t.Error("init does not say that it killed the engine")
		}
	})
}

func TestStrangerWithTheEnginesIDIsLeftAlone(t *testing.T) {
	s := start(t, `exec sleep 1000`, false)
	stranger := exec.Command("sleep", "1000")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stranger.Process.Kill(); _ = stranger.Wait() }()
	old := process.Ref{PID: stranger.Process.Pid, Start: 1}
	if err := old.WriteFile(filepath.Join(s.dir, "engine.pid")); err != nil {
		t.Fatal(err)
	}
	s.until("init runs its agent", func() bool { return strings.Contains(s.file("init.log"), "agent was started") })
	if code := s.terminate(); code != 0 {
		t.Errorf("init ended with %d", code)
	}
	if _, err := process.Find(stranger.Process.Pid); err != nil {
		t.Errorf("the stranger was ended: %v", err)
	}
}

func TestAgentThatCannotBeStarted(t *testing.T) {
	s := start(t, `exit 7`, false)
	s.until("several attempts", func() bool { return strings.Count(s.file("init.log"), `"status 7"`) >= 3 })
	if code := s.terminate(); code != 0 {
		t.Errorf("init ended with %d", code)
	}
}
