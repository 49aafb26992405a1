package guestinit_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/guestagent/guestinit"
	"github.com/trove-dbaas/trove/guestagent/process"
	"github.com/trove-dbaas/trove/guestagent/slots"
	"github.com/trove-dbaas/trove/internal/agentrelease"
)

// mark stands before what a release of the test does, behind the end of this program's own file.
const mark = "\nBEHAVIOUR OF THE TEST'S AGENT "

// behaviour is what an agent of a test does. The zero value is one that says nothing.
type behaviour struct {
	Version string
	Exit    int  // not 0: it ends at once
	Speaks  bool // it says what it is, and what it has found
	Bus     bool
	Service string
	Engine  int // it says that it has this process; 0: the one in the pid file
}

// runAgent is the main function of a release of the test.
func runAgent() int {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return 90
	}
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return 91
	}
	var b behaviour
	if err := json.Unmarshal(data[bytes.LastIndex(data, []byte(mark))+len(mark):], &b); err != nil {
		return 92
	}
	dir := os.Getenv("RUN")
	runs, err := os.OpenFile(filepath.Join(dir, "runs"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 93
	}
	fmt.Fprintln(runs, b.Version, exe, os.Getpid())
	runs.Close()
	if b.Exit != 0 {
		return b.Exit
	}
	if b.Speaks {
		life := slots.Life{PID: os.Getpid(), Version: b.Version, Bus: b.Bus, Service: b.Service, Engine: b.Engine}
		if ref, err := process.ReadFile(filepath.Join(dir, "engine.pid")); err == nil && b.Engine == 0 {
			life.Engine = ref.PID
		}
		if err := slots.WriteLife(dir, life); err != nil {
			return 94
		}
	}
	syscall.Pause() //nolint:errcheck // until a signal ends it
	return 0
}

// world is an init with releases on its volume.
type world struct {
	*sandbox
	t     *testing.T
	slots slots.Dir
	keys  string
	key   ed25519.PrivateKey
	image string

	management string // network namespace from which the bus is reached

	killed string // process id of the agent that was killed last
}

func newWorld(t *testing.T, image string) *world {
	t.Helper()
	volume := t.TempDir()
	w := &world{t: t, slots: slots.Dir(filepath.Join(volume, "agents")), keys: filepath.Join(volume, "key.pub"), image: image}
	if _, err := agentrelease.GenerateKey(filepath.Join(volume, "key")); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.key, err = agentrelease.ReadPrivateKey(filepath.Join(volume, "key")); err != nil {
		t.Fatal(err)
	}
	return w
}

// boot starts init, as after a start of the machine: the volume is what it was.
func (w *world) boot() {
	w.t.Helper()
	w.killed = ""
	agent := `echo "image sh $$" >>"$RUN/runs"; exec sleep 1000`
	w.sandbox = startIn(w.t, w.t.TempDir(), agent, false, func(c *guestinit.Config) {
		c.Slots, c.Keys, c.Version, c.Look, c.Management = w.slots, w.keys, w.image, 5*time.Millisecond, w.management
	})
}

// release puts a release on the volume; spoil may change its files afterwards.
func (w *world) release(b behaviour, key ed25519.PrivateKey) {
	w.t.Helper()
	dir := w.slots.Release(b.Version)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		w.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	data, err := os.ReadFile(self)
	if err != nil {
		w.t.Fatal(err)
	}
	does, err := json.Marshal(b)
	if err != nil {
		w.t.Fatal(err)
	}
	program := filepath.Join(dir, agentrelease.ProgramFile)
	// Mode 0600, and nothing else: it is never executed from here.
	if err := os.WriteFile(program, append(append(data, mark...), does...), 0o600); err != nil {
		w.t.Fatal(err)
	}
	m, err := agentrelease.Describe(program, agentrelease.VersionOf(b.Version), runtime.GOOS, runtime.GOARCH)
	if err != nil {
		w.t.Fatal(err)
	}
	signed, err := agentrelease.Sign(key, m)
	if err == nil {
		err = agentrelease.WriteSigned(dir, signed)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func good(version string) behaviour {
	return behaviour{Version: version, Speaks: true, Bus: true, Service: "healthy"}
}

// want does what an agent does that shall be replaced: it notes what is wanted, and ends. Like it, it runs by then: until an agent runs, the first process
// may still be about to remove the wish before this one.
func (w *world) want(version, op string, change func(*slots.Wanted)) {
	w.t.Helper()
	wish := slots.Wanted{Version: version, Op: op, EngineUp: true, Healthy: patience}
	if change != nil {
		change(&wish)
	}
	agent := w.begun()
	if err := w.slots.WriteWanted(wish); err != nil {
		w.t.Fatal(err)
	}
	w.kill(agent)
}

func (w *world) killAgent() {
	w.t.Helper()
	w.kill(w.begun())
}

// begun waits until an agent runs that was not killed yet, and returns its process id.
func (w *world) begun() string {
	w.t.Helper()
	w.until("the agent that was started last has begun", func() bool {
		fields := strings.Fields(w.file("runs"))
		if len(fields) == 0 || fields[len(fields)-1] == w.killed {
			return false
		}
		pid := fields[len(fields)-1]
		return slices.ContainsFunc(children(w.t, w.pid()), func(kid int) bool { return strconv.Itoa(kid) == pid })
	})
	fields := strings.Fields(w.file("runs"))
	return fields[len(fields)-1]
}

func (w *world) kill(agent string) {
	w.t.Helper()
	w.killed = agent
	pid, err := strconv.Atoi(agent)
	w.must(err)
	w.must(unix.Kill(pid, unix.SIGKILL))
}

func (w *world) state() slots.State {
	s, err := w.slots.ReadState()
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// runs returns which versions were started, in order.
func (w *world) runs() []string {
	var all []string
	for line := range strings.Lines(w.file("runs")) {
		all = append(all, strings.Fields(line)[0])
	}
	return all
}

func (w *world) count(version string) int {
	n := 0
	for _, v := range w.runs() {
		if v == version {
			n++
		}
	}
	return n
}

func (w *world) runsLast(version string) bool {
	all := w.runs()
	return len(all) > 0 && all[len(all)-1] == version
}

// unwellFor is how long a release has that is not to stay: enough for it to begin and to say what it says, on a machine that is busy as well.
const unwellFor = 2 * slots.MinHealthy

func TestAHealthyReleaseStays(t *testing.T) {
	w := newWorld(t, "1.0.0")
	w.boot()
	w.until("the image's agent runs", func() bool { return w.runsLast("image") })
	for _, v := range []string{"1.1.0", "1.2.0", "1.3.0"} {
		w.release(good(v), w.key)
		w.want(v, "op-"+v, nil)
		w.until(v+" stays", func() bool { s := w.state(); return s.Current == v && s.Trial == nil })
	}
	if d := cmp.Diff(slots.State{Current: "1.3.0", Previous: "1.2.0", Highest: "1.3.0"}, w.state()); d != "" {
		t.Error(d)
	}
	if _, err := os.Stat(w.slots.Release("1.1.0")); !os.IsNotExist(err) {
		t.Errorf("the release before the last is kept: %v", err)
	}
	if !strings.Contains(w.file("runs"), "/memfd:trove-guestagent-1.3.0") {
		t.Errorf("it was not run from memory:\n%s", w.file("runs"))
	}
	w.killAgent()
	w.until("the release is started again", func() bool { return w.count("1.3.0") == 2 })
	w.terminate()
	w.boot() // the machine is started again
	w.until("the release runs after a start of the machine", func() bool { return w.runsLast("1.3.0") })
	if got := w.runs(); len(got) != 1 {
		t.Errorf("after the start ran %v", got)
	}
}

func TestAReleaseThatCrashesIsTakenBack(t *testing.T) {
	w := newWorld(t, "1.0.0")
	w.boot()
	w.release(good("1.1.0"), w.key)
	w.want("1.1.0", "op-1", nil)
	w.until("1.1.0 stays", func() bool { return w.state().Current == "1.1.0" })
	w.release(behaviour{Version: "1.2.0", Exit: 3}, w.key)
	w.want("1.2.0", "op-2", nil)
	w.until("1.1.0 runs again", func() bool { return w.state().Failed != nil && w.runsLast("1.1.0") })
	want := slots.State{Current: "1.1.0", Highest: "1.1.0", Failed: &slots.Failed{
		Version: "1.2.0", Op: "op-2",
		Sentence: "Release 1.2.0 of the guest agent was taken back: it ended 3 times before it was well; at last it ended with status 3.",
	}}
	if d := cmp.Diff(want, w.state()); d != "" {
		t.Error(d)
	}
	if n := w.count("1.2.0"); n != 3 {
		t.Errorf("it was started %d times", n)
	}
	w.killAgent()
	w.until("the old one is started again", func() bool { return w.count("1.1.0") == 3 })
	if n := w.count("1.2.0"); n != 3 {
		t.Errorf("it was tried again without being asked for, %d starts", n)
	}
	// Asked for anew it is tried anew.
	w.release(good("1.2.0"), w.key)
	w.want("1.2.0", "op-3", nil)
	w.until("1.2.0 stays", func() bool { s := w.state(); return s.Current == "1.2.0" && s.Failed == nil })
}

func TestAReleaseThatIsNotWellIsTakenBack(t *testing.T) {
	open, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = open.Close() }) // after the parallel ones
	lies := good("1.1.0")
	for name, c := range map[string]struct {
		does behaviour
		bus  []string
		says string
	}{
		"it says nothing":           {behaviour{Version: "1.1.0"}, nil, "it said nothing of itself"},
		"the engine is not healthy": {behaviour{Version: "1.1.0", Speaks: true, Bus: true, Service: "crashed"}, nil, "did not find the database healthy"},
		"the engine is never ready": {behaviour{Version: "1.1.0", Speaks: true, Bus: true, Service: "running"}, nil, "did not find the database healthy"},
		"it takes another engine":   {behaviour{Version: "1.1.0", Speaks: true, Bus: true, Service: "healthy", Engine: 1}, nil, "did not take over the database's process"},
		"it does not join the bus":  {behaviour{Version: "1.1.0", Speaks: true, Service: "healthy"}, []string{open.Addr().String()}, "did not join the bus, which can be reached"},
		"it is another version":     {lies, nil, `it said that it is "0.9.0"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "1.0.0")
			w.boot()
			engine := exec.Command("sleep", "1000")
			if err := engine.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = engine.Process.Kill(); _ = engine.Wait() }()
			ref, err := process.Find(engine.Process.Pid)
			if err == nil {
				err = ref.WriteFile(filepath.Join(w.dir, "engine.pid"))
			}
			if err != nil {
				t.Fatal(err)
			}
			w.release(c.does, w.key)
			if name == "it is another version" {
				w.rename("1.1.0", "0.9.0")
			}
			w.until("the image's agent runs", func() bool { return w.runsLast("image") })
			w.want("1.1.0", "op-1", func(x *slots.Wanted) { x.Bus, x.Healthy = c.bus, unwellFor })
			w.until("the image's agent runs again", func() bool { return w.state().Failed != nil && w.runsLast("image") })
			if s := w.state(); s.Current != "" || s.Trial != nil || !strings.Contains(s.Failed.Sentence, c.says) {
				t.Errorf("the state is %+v, failed %+v", s, s.Failed)
			}
			if !ref.Alive() {
				t.Error("the engine is gone")
			}
		})
	}
}

// rename makes a release say that it is another version: a program whose signer gave the wrong version.
func (w *world) rename(version, says string) {
	w.t.Helper()
	program := filepath.Join(w.slots.Release(version), agentrelease.ProgramFile)
	data, err := os.ReadFile(program)
	if err != nil {
		w.t.Fatal(err)
	}
	i := bytes.LastIndex(data, []byte(mark))
	tail := bytes.Replace(data[i:], []byte(version), []byte(says), 1)
	if err := os.WriteFile(program, append(data[:i:i], tail...), 0o600); err != nil {
		w.t.Fatal(err)
	}
	m, err := agentrelease.Describe(program, agentrelease.VersionOf(version), runtime.GOOS, runtime.GOARCH)
	if err != nil {
		w.t.Fatal(err)
	}
	signed, err := agentrelease.Sign(w.key, m)
	if err == nil {
		err = agentrelease.WriteSigned(w.slots.Release(version), signed)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// unheard returns an address where nobody listens, and nobody else can for the length of the test.
func unheard(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(address.(*unix.SockaddrInet4).Port))
}

// TestATrialWaitsForTheBus: while nothing answers at the addresses of the bus, the agent is neither confirmed nor taken back for that.
func TestATrialWaitsForTheBus(t *testing.T) {
	t.Parallel()
	address := unheard(t)
	w := newWorld(t, "1.0.0")
	w.boot()
	w.release(behaviour{Version: "1.1.0", Speaks: true, Service: "healthy"}, w.key)
	w.want("1.1.0", "op-1", func(x *slots.Wanted) { x.Bus, x.Healthy = []string{address}, unwellFor })
	w.until("1.1.0 runs", func() bool { return w.runsLast("1.1.0") })
	began := time.Now()
	w.until("the time is over", func() bool { return time.Since(began) > unwellFor+time.Second })
	if s := w.state(); s.Trial == nil || s.Failed != nil || !w.runsLast("1.1.0") {
		t.Fatalf("the trial ended while the bus was away: %+v", s)
	}
	// It comes on: the agent joins.
	w.until("it says hello", func() bool {
		kids := children(t, w.pid())
		if len(kids) != 1 {
			return false
		}
		return slots.WriteLife(w.dir, slots.Life{PID: kids[0], Version: "1.1.0", Service: "healthy", Bus: true}) == nil
	})
	w.until("it stays", func() bool { return w.state().Current == "1.1.0" })
}

// TestAReleaseIsTakenBackBecauseTheDatabaseRecovers is about a machine that was cut off in the middle of a trial, and a database that needs longer to recover than an
// agent has to be well. One that ends instead is no excuse.
func TestAReleaseIsTakenBackBecauseTheDatabaseRecovers(t *testing.T) {
	for name, c := range map[string]struct {
		service string
		stays   bool
	}{"it recovers": {"running", true}, "it ends again and again": {"crashed", false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "1.0.0")
			w.boot()
			w.release(behaviour{Version: "1.1.0"}, w.key)
			w.want("1.1.0", "op-1", func(x *slots.Wanted) { x.Healthy = unwellFor })
			w.until("1.1.0 runs", func() bool { return w.runsLast("1.1.0") })
			w.must(unix.Kill(-w.cmd.Process.Pid, unix.SIGKILL)) // the machine is cut off
			<-w.out
			w.boot()
			w.until("1.1.0 runs again", func() bool { return w.runsLast("1.1.0") })
			engine := exec.Command("sleep", "1000")
			w.must(engine.Start())
			defer func() { _ = engine.Process.Kill(); _ = engine.Wait() }()
			ref, err := process.Find(engine.Process.Pid)
			w.must(err)
			w.must(ref.WriteFile(filepath.Join(w.dir, "engine.pid")))
			says := func(service string) bool {
				agent, err := strconv.Atoi(w.begun())
				return err == nil && slots.WriteLife(w.dir, slots.Life{PID: agent, Version: "1.1.0", Service: service, Engine: ref.PID, Bus: true}) == nil
			}
			w.until("the agent says how the database is", func() bool { return says(c.service) })
			began := time.Now()
			w.until("the time is over", func() bool { return time.Since(began) > unwellFor+time.Second || w.state().Trial == nil })
			if s := w.state(); (s.Trial != nil && s.Failed == nil) != c.stays {
				t.Fatalf("the trial is %+v, failed %+v", s.Trial, s.Failed)
			}
			if c.stays {
				w.until("the database is ready", func() bool { return says("healthy") })
				w.until("the release stays", func() bool { return w.state().Current == "1.1.0" })
			}
		})
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}
