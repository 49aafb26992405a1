// Package crashwalk_test kills the real control plane at every boundary of every step of every operation, on the local cloud with real databases:
// the next start finishes or undoes the operation within 30 s, and nothing is left over.
//
// The boundaries come from taskmanager/testdata/steps.golden, so that a new step is walked by itself and a new operation fails the test until it is
// said here how it is asked for. The program is built with the tag crashpoints; one deployment serves all crashes of a test.
package crashwalk_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
	"github.com/trove-dbaas/trove/tests/boundaries"
	deploy "github.com/trove-dbaas/trove/tests/deployment"
)

// limit is how long an operation may take from the start after the crash to its end.
const limit = 30 * time.Second

func repository(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func readSteps(t testing.TB) (map[string]boundaries.Steps, []string) {
	t.Helper()
	steps, kinds, err := boundaries.Read(repository(t))
	if err != nil {
		t.Fatal(err)
	}
	return steps, kinds
}

// waiting are steps that are released to wait for the guest, in any state of the machine that runs this.
var waiting = map[string]bool{"instance.create/guest": true, "instance.create/prepare": true, "instance.restart/restart": true}

// walker is one deployment whose control plane dies again and again.
type walker struct {
	*deploy.Deployment

	t       *testing.T
	binary  string
	file    string // what TROVE_CRASH_FILE names
	cmd     *exec.Cmd
	exited  chan struct{} // closed when the process has ended
	started time.Time
	project string
	crashes int
	slowest time.Duration
}

// newWalker makes a deployment with images of these versions, each a datastore and its version.
func newWalker(t *testing.T, versions ...[2]string) *walker {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this needs root: it makes sandboxes, volumes and networks")
	}
	root := repository(t)
	if err := deploy.Build(root); err != nil {
		t.Fatal(err)
	}
	w := &walker{t: t, binary: filepath.Join(t.TempDir(), "trove"), file: filepath.Join(t.TempDir(), "crash")}
	w.build(root)
	d := &deploy.Deployment{T: t, Root: root, State: filepath.Join(root, "var", "crashwalk"), Listen: deploy.FreePort()}
	w.Deployment = d
	d.Env = append(os.Environ(), "TROVE_CACHE="+filepath.Join(root, "var", "cache"))
	for _, version := range versions {
		if out, err := d.Try("image", "build", "--state", d.State, "--datastore", version[0], "--datastore-version", version[1]); err != nil {
			t.Fatalf("build the image: %v\n%s", err, out)
		}
	}
	d.Env = append(d.Env, "TROVE_API_RATE_LIMIT=0", "TROVE_QUOTA_INSTANCES=100", "TROVE_QUOTA_VOLUMES=400", "TROVE_CRASH_FILE="+w.file)
	t.Cleanup(w.destroy)
	w.start()
	if err := d.ReadOpenrc("openrc"); err != nil {
		t.Fatal(err)
	}
	var err error
	if d.Client, err = d.NewClient(); err != nil {
		t.Fatal(err)
	}
	if w.project, err = d.Client.ProjectID(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

// build makes the program that dies where it is told to, and checks that the one that is shipped does not know how.
func (w *walker) build(root string) {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), "go", "build", "-trimpath", "-tags", "crashpoints", "-o", w.binary, "./cmd/trove")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("build with crash points: %v\n%s", err, out)
	}
	for path, want := range map[string]bool{w.binary: true, filepath.Join(root, "bin", "trove"): false} {
		data, err := os.ReadFile(path)
		if err != nil {
			w.t.Fatal(err)
		}
		if bytes.Contains(data, []byte("TROVE_CRASH_FILE")) != want {
			w.t.Fatalf("%s has crash points: %t, want %t", path, !want, want)
		}
	}
}

// start starts the control plane as a child and returns when it answers.
func (w *walker) start() {
	w.t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	defer read.Close()
	if err := os.MkdirAll(filepath.Dir(w.LogFile()), 0o700); err != nil {
		w.t.Fatal(err)
	}
	log, err := os.OpenFile(w.LogFile(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		w.t.Fatal(err)
	}
	defer log.Close()
	w.started = time.Now()
	w.cmd = exec.Command(w.binary, "dev", "run", "--ready-fd", "3", "--state", w.State, "--listen", w.Listen)
	w.cmd.Env, w.cmd.Dir, w.cmd.Stdout, w.cmd.Stderr, w.cmd.ExtraFiles = w.Env, w.Root, log, log, []*os.File{write}
	if err := w.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	_ = write.Close()
	w.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait() // how it ended is in ProcessState
		close(exited)
	}(w.cmd, w.exited)
	if err := read.SetReadDeadline(time.Now().Add(deploy.Patience)); err != nil {
		w.t.Fatal(err)
	}
	line, err := bufio.NewReader(read).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "ready") {
		w.t.Fatalf("the control plane did not start: %q %v\n%s", line, err, w.LogEnd())
	}
}

func (w *walker) destroy() {
	_ = os.Remove(w.file)
	if w.cmd != nil {
		_ = w.cmd.Process.Kill()
		<-w.exited
	}
	if out, err := w.Try("dev", "destroy", "--state", w.State, "--force"); err != nil {
		w.t.Errorf("%v\n%s", err, out)
	}
	if left := w.onHost(); len(left) > 0 {
		w.t.Errorf("left on the machine:\n  %s", strings.Join(left, "\n  "))
	}
}

// die asks for something with the crash told, and returns when the process is dead and the next one answers. How the call ends is not looked at: the
// process may die before it has answered.
func (w *walker) die(lines string, ask func() error) {
	w.t.Helper()
	if err := os.WriteFile(w.file, []byte(lines), 0o600); err != nil {
		w.t.Fatal(err)
	}
	asked := ask()
	select {
	case <-w.exited:
	case <-time.After(limit):
		w.t.Fatalf("the control plane did not die at %q; the call ended with %v\n%s", lines, asked, w.LogEnd())
	}
	if ended := w.cmd.ProcessState.String(); ended != "signal: killed" {
		w.t.Fatalf("at %q the control plane ended by itself: %s\n%s", lines, ended, w.LogEnd())
	}
	if err := os.Remove(w.file); err != nil {
		w.t.Fatal(err)
	}
	w.crashes++
	w.start()
}

// ends waits for the end of the instance's newest operation, and returns how it ended.
func (w *walker) ends(instance, kind string) wire.Operation {
	w.t.Helper()
	var op wire.Operation
	deploy.Eventually(w.t, limit-time.Since(w.started), kind+" to end", func() bool {
		all, err := w.Client.Operations(w.t.Context(), instance)
		if err != nil || len(all) == 0 {
			return false
		}
		op = all[0]
		return op.State != string(trove.OperationOpen)
	})
	w.slowest = max(w.slowest, time.Since(w.started))
	if op.Kind != kind {
		w.t.Fatalf("the newest operation is %s, not %s", op.Kind, kind)
	}
	return op
}

// find returns the id of the instance with the name, "" if there is none.
func (w *walker) find(name string) string {
	w.t.Helper()
	all, err := w.Client.AllInstances(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, i := range all {
		if i.Name == name {
			return i.ID
		}
	}
	w.t.Fatalf("there is no instance %s", name)
	return ""
}

// gone waits until the instance is not there any more.
func (w *walker) gone(id string) {
	w.t.Helper()
	deploy.Eventually(w.t, limit, "the instance to be gone", func() bool {
		_, err := w.Client.Instance(w.t.Context(), id)
		return client.IsNotFound(err)
	})
}

func (w *walker) askCreate(name string) error {
	_, err := w.Client.CreateInstance(w.t.Context(), wire.InstanceCreate{
		Name: name, FlavorRef: "1", Volume: &wire.VolumeCreate{Size: 1}, Databases: []wire.DatabaseCreate{{Name: "app"}},
		Users: []wire.UserCreate{{Name: "app", Password: deploy.Password, Databases: []wire.Database{{Name: "app"}}}},
	})
	return err //nolint:wrapcheck // shown as it is
}

// TestCrashWalk is the walk over all operations but those of upgrades.
func TestCrashWalk(t *testing.T) {
	steps, kinds := readSteps(t)
	w := newWalker(t, [2]string{"mariadb", "10.11"})
	began := time.Now()
	empty := w.look()
	w.walkCreateAndDelete(steps, empty)
	w.walkKept(steps, kinds)
	w.same("in the end", empty)
	w.sum(began)
}

func (w *walker) sum(began time.Time) {
	w.t.Helper()
	w.t.Logf("%d crashes in %s, the slowest recovery took %s", w.crashes, time.Since(began).Round(time.Second), w.slowest.Round(time.Millisecond))
}

// walkCreateAndDelete makes and removes an instance for each boundary of create, done and undone, and meets one of delete each time.
func (w *walker) walkCreateAndDelete(steps map[string]boundaries.Steps, empty view) {
	w.t.Helper()
	type create struct{ at, fail string }
	var creates []create
	for _, at := range steps[trove.OpCreate].Forwards(waiting) {
		creates = append(creates, create{at: at})
	}
	for _, at := range steps[trove.OpCreate].Backwards() {
		creates = append(creates, create{at: at, fail: "fail " + steps[trove.OpCreate].Last() + "\n"})
	}
	deletes := steps[trove.OpDelete].Forwards(waiting)
	if len(deletes) > len(creates) {
		w.t.Fatal("there are more boundaries of delete than of create")
	}
	for n, c := range creates {
		name := fmt.Sprintf("walk-%d", n)
		w.die("crash "+c.at+"\n"+c.fail, func() error { return w.askCreate(name) })
		id := w.find(name)
		op := w.ends(id, trove.OpCreate)
		switch i := w.Instance(id); {
		case c.fail == "" && (op.State != "done" || i.Status != "ACTIVE"):
			w.t.Errorf("%s: the create ended %s (%s), the instance is %s", c.at, op.State, op.Error, i.Status)
		case c.fail == "":
			w.serves(c.at, id)
		case op.State != "undone" || i.Status != "ERROR":
			w.t.Errorf("%s: the create ended %s (%s), the instance is %s", c.at, op.State, op.Error, i.Status)
		default:
			w.sameOnHost(c.at, empty)
		}
		remove := func() error { return w.Client.DeleteInstance(w.t.Context(), id) }
		at := c.at + ", then a delete"
		if n < len(deletes) {
			at = deletes[n]
			w.die("crash "+at+"\n", remove)
		} else if err := remove(); err != nil {
			w.t.Fatal(err)
		}
		w.gone(id)
		if n < len(deletes) {
			w.slowest = max(w.slowest, time.Since(w.started))
		}
		w.same(at, empty)
	}
}
