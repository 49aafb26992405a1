package attacks_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/tests/attacks/attempt"
	deploy "github.com/trove-dbaas/trove/tests/deployment"
)

// program is the attacker's binary, built by TestMain.
var program string

// site is a deployment with the guest that attacks and its neighbour.
type site struct {
	*deploy.Deployment
	guest, neighbour wire.Instance
	watch            *watch
}

var shared struct {
	once sync.Once
	s    *site
}

// theSite returns the deployment that all attacks share.
func theSite(t *testing.T) *site {
	t.Helper()
	shared.once.Do(func() {
		// A flavor of each kind: the small one, and one that may write 4 MiB a second.
		t.Setenv("TROVE_LOCAL_FLAVORS", `[{id: "1", name: db.tiny, ram: 512, vcpus: 1}, {id: "9", name: db.slow, ram: 512, vcpus: 1, bandwidth_mib: 4}]`)
		d, err := deploy.New(repository, filepath.Join(repository, "var", "attacks"))
		if err != nil {
			t.Fatal(err)
		}
		s := &site{Deployment: d}
		shared.s = s
		d.T = t
		s.neighbour, s.guest = d.CreateKept("neighbour"), d.CreateKept("attacker")
		s.watch = newWatch(s.neighbour)
	})
	if shared.s == nil || shared.s.watch == nil {
		t.Fatal("the deployment could not be made")
	}
	s := *shared.s
	d := *s.Deployment
	d.T = t
	s.Deployment = &d
	return &s
}

func removeSite() error {
	if shared.s == nil {
		return nil
	}
	if shared.s.watch != nil {
		shared.s.watch.stop()
	}
	_, err := shared.s.Try("dev", "destroy", "--state", shared.s.State, "--force")
	return err
}

// watch asks the neighbour's database 20 times a second.
type watch struct {
	db            *sql.DB
	asked, failed atomic.Int64
	last          atomic.Value // the last error
	end           chan struct{}
	done          chan struct{}
}

func newWatch(i wire.Instance) *watch {
	w := &watch{end: make(chan struct{}), done: make(chan struct{})}
	w.db = sql.OpenDB(deploy.Connector(i, "app", deploy.Password, "app"))
	go func() {
		defer close(w.done)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-w.end:
				return
			case <-tick.C:
			}
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			var one int
			err := w.db.QueryRowContext(ctx, "SELECT 1").Scan(&one)
			cancel()
			w.asked.Add(1)
			if err != nil {
				w.last.Store(err.Error())
				w.failed.Add(1)
			}
		}
	}()
	return w
}

func (w *watch) stop() {
	close(w.end)
	<-w.done
	_ = w.db.Close()
}

// attack is one test: what the log and the metrics were when it began.
type attack struct {
	*site
	t             *testing.T
	log           int64
	before        map[string]float64
	asked, failed int64
	frames        map[string]uint64 // that the packet filter had dropped
}

// begin starts an attack; in the end the neighbour must have lost nothing.
func begin(t *testing.T) *attack {
	t.Helper()
	s := theSite(t)
	a := &attack{site: s, t: t, before: s.metrics(t), asked: s.watch.asked.Load(), failed: s.watch.failed.Load()}
	info, err := os.Stat(s.LogFile())
	if err != nil {
		t.Fatal(err)
	}
	a.log = info.Size()
	a.frames = map[string]uint64{"refused": s.filtered("refused"), "connections": s.filtered("connections")}
	t.Cleanup(func() {
		deploy.Eventually(t, deploy.Patience, "the neighbour's client to ask again", func() bool { return s.watch.asked.Load() > a.asked+1 })
		if failed := s.watch.failed.Load() - a.failed; failed > 0 {
			t.Errorf("%d of %d queries of the neighbour failed: %v", failed, s.watch.asked.Load()-a.asked, s.watch.last.Load())
		}
	})
	return a
}

// metrics returns the service's metrics by their name with labels.
func (s *site) metrics(t *testing.T) map[string]float64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Listen+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	all := map[string]float64{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, value, ok := cutLast(lines.Text(), " ")
		if n, err := strconv.ParseFloat(value, 64); ok && err == nil {
			all[name] = n
		}
	}
	return all
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+len(sep):], true
}

// counted waits until a metric has risen by at least n since the attack began.
func (a *attack) counted(metric string, n float64) {
	a.t.Helper()
	deploy.Eventually(a.t, deploy.Patience, fmt.Sprintf("the metric %s to rise by %v", metric, n), func() bool {
		return a.metrics(a.t)[metric]-a.before[metric] >= n
	})
}

// logged waits until a line of the service's log since the attack began has all the parts.
func (a *attack) logged(parts ...string) {
	a.t.Helper()
	deploy.Eventually(a.t, deploy.Patience, fmt.Sprintf("a log line with %q", parts), func() bool {
		f, err := os.Open(a.LogFile())
		if err != nil {
			a.t.Fatal(err)
		}
		defer f.Close()
		data, err := io.ReadAll(io.NewSectionReader(f, a.log, 64<<20))
		if err != nil {
			a.t.Fatal(err)
		}
		for line := range bytes.Lines(data) {
			found := 0
			for _, p := range parts {
				if bytes.Contains(line, []byte(p)) {
					found++
				}
			}
			if found == len(parts) {
				return true
			}
		}
		return false
	})
}

// runDir is where the local cloud keeps what lives until the machine is restarted.
func (s *site) runDir() string {
	sum := sha256.Sum256([]byte(s.State))
	return "/run/trove-" + hex.EncodeToString(sum[:4])
}

// firstProcess returns the number of the first process of an instance's sandbox, as the host sees it.
func (s *site) firstProcess(instance string) int {
	s.T.Helper()
	data, err := os.ReadFile(filepath.Join(s.runDir(), "runc", instance, "state.json"))
	if err != nil {
		s.T.Fatal(err)
	}
	var state struct {
		PID int `json:"init_process_pid"`
	}
	if err := json.Unmarshal(data, &state); err != nil {
		s.T.Fatal(err)
	}
	return state.PID
}

// root is the way to a guest's own file system from the host.
func (s *site) root(instance string) string {
	return fmt.Sprintf("/proc/%d/root", s.firstProcess(instance))
}

// command prepares the attacker to run in an instance's sandbox: with the identity, the limits, the capabilities and the filter of its first process. The
// program is a file in memory: the sandbox has no place from which a file of the tenant's could be run.
func (s *site) command(ctx context.Context, instance, name string, in map[string]string) (*exec.Cmd, *bytes.Buffer, *bytes.Buffer) {
	s.T.Helper()
	fd, err := unix.MemfdCreate("attacker", unix.MFD_CLOEXEC)
	if err != nil {
		s.T.Fatal(err)
	}
	memory := os.NewFile(uintptr(fd), "attacker")
	s.T.Cleanup(func() { _ = memory.Close() })
	data, err := os.ReadFile(program)
	if err != nil {
		s.T.Fatal(err)
	}
	if _, err := memory.Write(data); err != nil {
		s.T.Fatal(err)
	}
	input, err := json.Marshal(in)
	if err != nil {
		s.T.Fatal(err)
	}
	// Opened again for reading: what is open for writing cannot be run.
	readable, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		s.T.Fatal(err)
	}
	s.T.Cleanup(func() { _ = readable.Close() })
	if err := memory.Close(); err != nil {
		s.T.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, program, "enter", strconv.Itoa(s.firstProcess(instance)), name)
	cmd.ExtraFiles, cmd.Stdin = []*os.File{readable}, bytes.NewReader(input)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	return cmd, &out, &errs
}

// inside runs an attack in the attacking guest's sandbox and returns what it tried. It must have tried something, its controls must have
// succeeded, and nothing else.
func (a *attack) inside(name string, in map[string]string) attempt.Report {
	a.t.Helper()
	return a.insideOf(a.guest.ID, name, in)
}

// fresh makes a guest of the attack's own, for what others would feel: the enrolment endpoint counts requests by address.
func (a *attack) fresh(name string) string {
	a.t.Helper()
	return a.Create(name).ID
}

func (a *attack) insideOf(instance, name string, in map[string]string) attempt.Report {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd, out, errs := a.command(ctx, instance, name, in)
	if err := cmd.Run(); err != nil {
		a.t.Fatalf("the attack %s could not be tried: %v\n%s%s", name, err, out, errs)
	}
	return a.judge(name, out.Bytes())
}

func (a *attack) judge(name string, out []byte) attempt.Report {
	a.t.Helper()
	var r attempt.Report
	if err := json.Unmarshal(out, &r); err != nil {
		a.t.Fatalf("the attack %s reported %q: %v", name, out, err)
	}
	tried, controls := 0, 0
	for _, act := range r.Acts {
		switch {
		case act.Own && !act.Done:
			a.t.Errorf("the control failed, so the attack proves nothing: %s: %s", act.What, act.Got)
		case act.Own:
			controls++
		case act.Done:
			a.t.Errorf("the attack succeeded: %s: %s", act.What, act.Got)
			tried++
		default:
			tried++
			if testing.Verbose() {
				a.t.Logf("%s: %s", act.What, act.Got)
			}
		}
	}
	if tried+controls == 0 || controls == 0 {
		a.t.Errorf("%d attempts and %d controls: nothing was proven", tried, controls)
	}
	return r
}

// during runs an attack and, when it says that it is ready, does what it waits for.
func (a *attack) during(guest, name string, in map[string]string, do func()) attempt.Report {
	a.t.Helper()
	const ready = "/run/attack-ready"
	seen := filepath.Join(a.root(guest), ready)
	_ = os.Remove(seen)
	in["ready"] = ready
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd, out, errs := a.command(ctx, guest, name, in)
	if err := cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		if _, err := os.Lstat(seen); err == nil {
			break
		}
		select {
		case err := <-ended:
			a.t.Fatalf("the attack %s ended before it was ready: %v\n%s%s", name, err, out, errs)
		case <-ctx.Done():
			a.t.Fatalf("the attack %s did not get ready\n%s%s", name, out, errs)
		case <-time.After(10 * time.Millisecond):
		}
	}
	do()
	if err := <-ended; err != nil {
		a.t.Fatalf("the attack %s could not be tried: %v\n%s%s", name, err, out, errs)
	}
	return a.judge(name, out.Bytes())
}
