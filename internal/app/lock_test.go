package app_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/app"
	"github.com/trove-dbaas/trove/tests/dbserver"
)

// holderVariable makes this test binary a process that holds locks: the state directory, then the components.
const holderVariable = "TROVE_TEST_HOLD"

func TestMain(m *testing.M) {
	if what := os.Getenv(holderVariable); what != "" {
		hold(strings.Fields(what))
		return
	}
	m.Run()
	dbserver.StopShared()
}

// hold takes the locks, says so, and keeps them until its standard input ends. A name of the process comes first, with a colon.
func hold(words []string) {
	state, name, _ := strings.Cut(words[0], ":")
	c, err := app.ParseComponents(words[1:])
	if err == nil {
		c, err = c.Named(name)
	}
	if err == nil && c.Taskmanager {
		_, err = app.StateDir(state).LockCloud(context.Background(), func(int) {})
	}
	if err == nil {
		_, err = app.StateDir(state).Lock(context.Background(), c)
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stdout, err)
		return
	}
	_, _ = fmt.Fprintln(os.Stdout, "held")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// holding starts a process that holds the locks of components. It returns its id and what kills it.
func holding(t *testing.T, state app.StateDir, components ...string) (pid int, kill func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), holderVariable+"="+string(state)+" "+strings.Join(components, " "))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = stdin.Close()
	}
	t.Cleanup(kill)
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "held\n" {
		t.Fatalf("the process that shall hold %v says %q, %v", components, line, err)
	}
	return cmd.Process.Pid, kill
}

func components(t *testing.T, names ...string) app.Components {
	t.Helper()
	c, err := app.ParseComponents(names)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// refused checks that the components cannot run and that the sentence has all of the words.
func refused(t *testing.T, s app.StateDir, c app.Components, words ...string) {
	t.Helper()
	lock, err := s.Lock(t.Context(), c)
	if err == nil {
		_ = lock.Close()
	}
	if trove.KindOf(err) != trove.KindConflict {
		t.Errorf("Lock(%v): %v, want a conflict", c.Names(), err)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("Lock(%v): %q lacks %q", c.Names(), err, w)
		}
	}
}

func granted(t *testing.T, s app.StateDir, c app.Components) {
	t.Helper()
	lock, err := s.Lock(t.Context(), c)
	if err != nil {
		t.Errorf("Lock(%v): %v", c.Names(), err)
		return
	}
	if err := lock.Close(); err != nil {
		t.Error(err)
	}
}

func TestTheWholeServiceRunsAlone(t *testing.T) {
	s := app.StateDir(t.TempDir())
	pid, kill := holding(t, s, "conductor", "api", "taskmanager")
	for _, c := range []app.Components{app.AllComponents, components(t, "api"), components(t, "taskmanager", "conductor")} {
		refused(t, s, c, "already runs from "+string(s), fmt.Sprintf("process %d", pid))
	}
	running, err := s.Running()
	if diff := cmp.Diff(app.Running{All: pid, Components: map[string]int{}}, running); err != nil || diff != "" {
		t.Errorf("Running: %v\n%s", err, diff)
	}
	if missing := running.Missing(); len(missing) > 0 {
		t.Errorf("missing: %v", missing)
	}
	kill()
	granted(t, s, app.AllComponents)
	granted(t, s, components(t, "api"))
}

func TestSingleComponentsRunBesideEachOther(t *testing.T) {
	s := app.StateDir(t.TempDir())
	api, killAPI := holding(t, s, "api")
	both, kill := holding(t, s, "taskmanager", "conductor")
	refused(t, s, components(t, "api"), "trove-api already runs", fmt.Sprintf("process %d", api))
	refused(t, s, components(t, "conductor"), "trove-conductor already runs", fmt.Sprintf("process %d", both))
	refused(t, s, components(t, "api", "taskmanager"), "already runs")
	refused(t, s, app.AllComponents, "Single components already run", "trove-api", "trove-taskmanager", "trove-conductor", fmt.Sprint(api), fmt.Sprint(both))
	running, err := s.Running()
	want := app.Running{Components: map[string]int{"api": api, "taskmanager": both, "conductor": both}}
	if diff := cmp.Diff(want, running); err != nil || diff != "" {
		t.Errorf("Running: %v\n%s", err, diff)
	}
	if diff := cmp.Diff([]int{api, both}, running.Processes()); diff != "" {
		t.Error(diff)
	}
	killAPI()
	if running, err = s.Running(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"trove-api"}, running.Missing()); diff != "" {
		t.Error(diff)
	}
	refused(t, s, app.AllComponents, "Single components already run")
	granted(t, s, components(t, "api")) // also right after a kill
	kill()
	granted(t, s, app.AllComponents)
}

// A look at what runs takes the locks for a moment, which must not keep a component from starting.
func TestALookDoesNotRefuseAStart(t *testing.T) {
	s := app.StateDir(t.TempDir())
	granted(t, s, app.AllComponents)
	granted(t, s, components(t, "api"))
	done := make(chan struct{})
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		for {
			select {
			case <-done:
				return
			default:
				_, _ = s.Running() // a process that is being started is an error that passes
			}
		}
	}()
	for range 200 {
		granted(t, s, app.AllComponents)
		granted(t, s, components(t, "api"))
	}
	close(done)
	<-looked
}

// A machine that is busy may put the one who looks aside.
func TestASlowLookDoesNotRefuseAStart(t *testing.T) {
	s := app.StateDir(t.TempDir())
	granted(t, s, app.AllComponents)
	f, err := os.Open(s.Path("trove.pid"))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	var looks sync.WaitGroup
	looks.Go(func() {
		<-time.After(time.Second)
		_ = f.Close()
	})
	granted(t, s, app.AllComponents)
	looks.Wait()
}

// TestFurtherProcessesHaveNames runs two of each component; of the taskmanagers one waits until the other's process is killed.
func TestFurtherProcessesHaveNames(t *testing.T) {
	s := app.StateDir(t.TempDir())
	api, _ := holding(t, s, "api")
	two, killTwo := holding(t, s+":two", "api")
	first, killFirst := holding(t, s, "taskmanager")
	named, err := components(t, "api").Named("two")
	if err != nil {
		t.Fatal(err)
	}
	refused(t, s, named, "trove-api@two already runs", fmt.Sprintf("process %d", two), "--name")
	refused(t, s, app.AllComponents, "Single components already run", "trove-api@two")
	running, err := s.Running()
	want := app.Running{Components: map[string]int{"api": api, "api@two": two, "taskmanager": first}}
	if diff := cmp.Diff(want, running); err != nil || diff != "" {
		t.Errorf("Running: %v\n%s", err, diff)
	}
	if got, want := running.String(), fmt.Sprintf("trove-api: process %d, trove-api@two: process %d, trove-taskmanager: process %d", api, two, first); got != want {
		t.Errorf("Running is %q, want %q", got, want)
	}
	if diff := cmp.Diff([]string{"trove-conductor"}, running.Missing()); diff != "" {
		t.Error(diff)
	}
	turn := make(chan error, 1)
	waits := make(chan int, 1)
	go func() {
		lock, err := s.LockCloud(t.Context(), func(pid int) { waits <- pid })
		if err == nil {
			err = lock.Close()
		}
		turn <- err
	}()
	if pid := <-waits; pid != first {
		t.Errorf("the second taskmanager waits for process %d, want %d", pid, first)
	}
	select {
	case err := <-turn:
		t.Fatalf("two taskmanagers work at once (%v)", err)
	case <-time.After(3 * app.StandbyLook):
	}
	killFirst()
	if err := <-turn; err != nil {
		t.Error(err)
	}
	killTwo()
	granted(t, s, named)
}

func TestNamesOfProcesses(t *testing.T) {
	for _, name := range []string{"Two", "a b", "../x", "@", strings.Repeat("a", 32)} {
		if _, err := components(t, "api").Named(name); trove.KindOf(err) != trove.KindBadRequest {
			t.Errorf("the name %q: %v", name, err)
		}
	}
	if _, err := components(t, "api", "taskmanager").Named("two"); trove.KindOf(err) != trove.KindBadRequest {
		t.Errorf("a taskmanager that would stand by beside an api: %v", err)
	}
}

func TestParseComponents(t *testing.T) {
	if c := components(t, "taskmanager", "api", "conductor"); c != app.AllComponents {
		t.Errorf("all three are %+v", c)
	}
	if diff := cmp.Diff([]string{"api", "conductor"}, components(t, "conductor", "api", "api").Names()); diff != "" {
		t.Error(diff)
	}
	for _, names := range [][]string{nil, {"guest"}, {"api", ""}, {"API"}} {
		if c, err := app.ParseComponents(names); trove.KindOf(err) != trove.KindBadRequest {
			t.Errorf("ParseComponents(%q): %+v, %v", names, c, err)
		}
	}
}
