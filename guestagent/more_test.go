package guestagent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/fake"
	"github.com/trove-dbaas/trove/guestagent/process"
	"github.com/trove-dbaas/trove/guestapi"
)

// An engine that was healthy and answers no more is blocked, not crashed; it is not touched.
func TestEngineThatDoesNotAnswerIsBlocked(t *testing.T) {
	g := newGuest(t)
	on := g.deafen()
	on.Store(false)
	g.prepared()
	g.untilService(trove.ServiceHealthy)
	pid := g.enginePID()
	on.Store(true)
	g.untilService(trove.ServiceBlocked)
	on.Store(false)
	g.untilService(trove.ServiceHealthy)
	if g.enginePID() != pid {
		t.Error("the engine was restarted")
	}
}

// announced is an engine that says when it is ready, from a child of its own.
type announced struct{ *fake.Engine }

func (e announced) Command(l engine.Layout) (engine.Command, error) {
	c, err := e.Engine.Command(l)
	c.Notify = true
	return c, err
}

func TestReadinessIsAnnounced(t *testing.T) {
	g := newGuest(t)
	g.cfg.Engine = announced{g.fake}
	g.cfg.Timings.PingOther = time.Hour // nothing but the announcement can bring it up
	notify := filepath.Join(g.layout.Runtime, "notify")
	// Shells cannot write to a datagram socket; this test does, and is nobody the agent trusts: the session is not the engine's.
	g.start()
	if _, fail := ask[guestapi.OperationStatus](g, guestapi.CmdPrepare, "op/prepare", prepareArgs()); fail != nil {
		t.Fatal(fail)
	}
	g.until("the engine's process", func() bool { return g.agent.Service().PID != 0 })
	conn, err := net.Dial("unixgram", notify)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("READY=1\nSTATUS=up")); err != nil {
		t.Fatal(err)
	}
	beats := len(received[guestapi.Heartbeat](g, guestapi.ReportHeartbeat))
	g.until("three heartbeats", func() bool { return len(received[guestapi.Heartbeat](g, guestapi.ReportHeartbeat)) >= beats+3 })
	if g.agent.Service().Up {
		t.Fatal("a stranger's announcement was believed")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	g.fake.RunScript("up; " + roleVariable + "=" + roleNotify + " '" + self + "' & wait") // a child of the engine speaks for it
	g.stop()
	ref, err := g.engineRef()
	if err != nil {
		t.Fatal(err)
	}
	killAndWait(g, ref.PID)
	g.start() // resumes prepare, which starts the engine again
	if end := g.await("op/prepare"); end.State != guestapi.StateDone {
		t.Errorf("prepare ended with %+v", end)
	}
	// An engine that ends while no agent looks leaves its child, which the next agent ends.
	g.stop()
	leader := g.enginePID()
	killAndWait(g, leader)
	if err := unix.Kill(-leader, 0); err != nil {
		t.Fatalf("the engine's child is gone already: %v", err)
	}
	g.start()
	g.until("the rest is gone", func() bool { return unix.Kill(-leader, 0) != nil })
}

func killAndWait(g *guest, pid int) {
	g.t.Helper()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		g.t.Fatal(err)
	}
	// It is this test's own child if the agent ran in here; in a guest the first process takes its end.
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	g.until("the process is gone", func() bool { _, err := process.Find(pid); return err != nil })
}

// counting is an engine whose lists take until they are let go, and that counts how many run.
type counting struct {
	*fake.Engine
	mu      sync.Mutex
	running int
	most    int
	release chan struct{}
}

func (e *counting) Users(ctx context.Context, l engine.Layout) ([]trove.User, error) {
	e.mu.Lock()
	e.running++
	e.most = max(e.most, e.running)
	e.mu.Unlock()
	select {
	case <-e.release:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	e.mu.Lock()
	e.running--
	e.mu.Unlock()
	return e.Engine.Users(ctx, l)
}

func TestShortCommandsAreBoundedAndBlockNobody(t *testing.T) {
	g := newGuest(t)
	e := &counting{Engine: g.fake, release: make(chan struct{})}
	g.cfg.Engine = e
	g.prepared()
	var asking sync.WaitGroup
	answers := make(chan *guestapi.Failure, 100)
	for i := range 70 { // 64 are taken in, 8 of them run
		asking.Go(func() {
			_, fail := ask[[]trove.User](g, guestapi.CmdListUsers, fmt.Sprint(i), nil)
			answers <- fail
		})
	}
	g.until("eight at once", func() bool { e.mu.Lock(); defer e.mu.Unlock(); return e.running == 8 })
	for range 6 { // those above 64 are refused at once
		fail := <-answers
		if fail == nil || fail.Kind != trove.KindUnavailable {
			t.Errorf("one command too many was answered with %+v", fail)
		}
	}
	if s, fail := ask[guestapi.OperationStatus](g, guestapi.CmdStatus, "s", guestapi.StatusArgs{ID: "op/prepare"}); fail != nil || s.State != guestapi.StateDone {
		t.Errorf("status was answered with %+v, %+v", s, fail)
	}
	beats := len(received[guestapi.Heartbeat](g, guestapi.ReportHeartbeat))
	g.until("heartbeats meanwhile", func() bool { return len(received[guestapi.Heartbeat](g, guestapi.ReportHeartbeat)) > beats+2 })
	close(e.release)
	asking.Wait()
	close(answers)
	for fail := range answers {
		if fail != nil {
			t.Errorf("a command was answered with %+v", fail)
		}
	}
	if e.most != 8 {
		t.Errorf("%d ran at the same time", e.most)
	}
}

func TestLongCommandsRunOneAfterAnother(t *testing.T) {
	g := newGuest(t)
	g.prepared()
	ids := []string{"a/restart", "b/restart", "c/restart"}
	for _, id := range ids {
		if s, fail := ask[guestapi.OperationStatus](g, guestapi.CmdRestart, id, nil); fail != nil || s.ID != id {
			t.Fatalf("%s was answered with %+v, %+v", id, s, fail)
		}
	}
	for _, id := range ids {
		if end := g.await(id); end.State != guestapi.StateDone {
			t.Errorf("%s ended with %+v", id, end)
		}
	}
	g.until("progress", func() bool {
		return slices.ContainsFunc(received[guestapi.OperationStatus](g, guestapi.ReportProgress), func(p guestapi.OperationStatus) bool { return p.ID != "op/prepare" })
	})
	var order []string
	for _, p := range received[guestapi.OperationStatus](g, guestapi.ReportProgress) {
		if p.ID != "op/prepare" {
			order = append(order, p.ID)
		}
	}
	if order = slices.Compact(order); !slices.IsSorted(order) {
		t.Errorf("progress came in the order %v", order)
	}
	if n := g.fake.Calls(fake.OpCommand); n < 4 {
		t.Errorf("the engine was started %d times", n)
	}
}

func TestConfigureWithRestart(t *testing.T) {
	g := newGuest(t)
	g.prepared()
	old := g.enginePID()
	args := guestapi.ConfigureArgs{ServerID: 7, RAM: 1024, VCPUs: 2}
	if end := g.long(guestapi.CmdConfigure, "op/configure", args); end.State != guestapi.StateDone || g.enginePID() != old {
		t.Errorf("configure ended with %+v", end)
	}
	args.Restart = true
	if end := g.long(guestapi.CmdConfigure, "op2/configure", args); end.State != guestapi.StateDone || g.enginePID() == old {
		t.Errorf("configure with restart ended with %+v", end)
	}
	if n := g.fake.Calls(fake.OpConfigure); n != 2 {
		t.Errorf("settings were written %d times", n)
	}
}

func TestCommandsBeforePrepare(t *testing.T) {
	g := newGuest(t)
	g.start()
	if end := g.long(guestapi.CmdRestart, "op/restart", nil); end.State != guestapi.StateFailed || end.Error.Kind != trove.KindConflict {
		t.Errorf("restart ended with %+v", end)
	}
	_, fail := ask[any](g, guestapi.CmdListDatabases, "1", nil)
	if fail == nil || fail.Kind != trove.KindUnavailable || !strings.Contains(fail.Message, "building") {
		t.Errorf("a list was answered with %+v", fail)
	}
	usage, fail := ask[guestapi.VolumeUsage](g, guestapi.CmdVolume, "2", nil)
	if fail != nil || usage.Total == 0 {
		t.Errorf("volume was answered with %+v, %+v", usage, fail)
	}
	if end := g.long(guestapi.CmdStop, "op/stop", nil); end.State != guestapi.StateDone {
		t.Errorf("stop ended with %+v", end)
	}
}

func TestGrowWaitsForTheFileSystem(t *testing.T) {
	g := newGuest(t)
	g.prepared()
	if end := g.long(guestapi.CmdGrow, "op/grow", guestapi.GrowArgs{SizeGiB: 1}); end.State != guestapi.StateDone {
		t.Errorf("grow to what it is ended with %+v", end)
	}
	end := g.long(guestapi.CmdGrow, "op2/grow", guestapi.GrowArgs{SizeGiB: 1 << 30})
	if end.State != guestapi.StateFailed || !strings.Contains(end.Error.Message, "GiB asked for") {
		t.Errorf("grow to what it never is ended with %+v", end)
	}
}

// The tables of a file system that is large take more than the GiB that a growth adds: only the size of the volume tells that it is done.
func TestGrowOfALargeExt4IsDone(t *testing.T) {
	const size = 1 << 20 // GiB; statfs never tells it here
	g := newGuest(t)
	var calls atomic.Int64
	g.cfg.Timings.GrowTimeout = 10 * time.Second
	g.cfg.Grow = func() (int64, error) {
		if calls.Add(1) == 1 {
			return (size - 1) << 30, nil // the machine does not see yet that the volume has grown
		}
		return size<<30 - 16<<20, nil // the volume's encryption has the rest
	}
	g.prepared()
	if end := g.long(guestapi.CmdGrow, "op/grow", guestapi.GrowArgs{SizeGiB: size}); end.State != guestapi.StateDone || calls.Load() != 2 {
		t.Errorf("grow ended with %+v after %d attempts", end, calls.Load())
	}
}

func TestGrowSaysWhatItWaitedFor(t *testing.T) {
	for want, do := range map[string]func() (int64, error){
		"The volume has 2.0 GiB, less than the 3 GiB asked for, after 100ms.": func() (int64, error) { return 2 << 30, nil },
		"The file system could not be made to fill the volume within 100ms.":  func() (int64, error) { return 0, errors.New("no right") },
	} {
		g := newGuest(t)
		g.cfg.Grow = do
		g.prepared()
		if end := g.long(guestapi.CmdGrow, "op/grow", guestapi.GrowArgs{SizeGiB: 3}); end.State != guestapi.StateFailed || end.Error.Message != want {
			t.Errorf("grow ended with %+v, not %q", end, want)
		}
	}
}

// Every short command that changes something, as a story.
func TestUsersAndDatabases(t *testing.T) {
	g := newGuest(t)
	g.prepared()
	do := func(c guestapi.Command, args any) {
		t.Helper()
		if _, fail := ask[any](g, c, "1", args); fail != nil {
			t.Errorf("%s: %+v", c, fail)
		}
	}
	refused := func(c guestapi.Command, args any, kind trove.Kind) {
		t.Helper()
		if _, fail := ask[any](g, c, "1", args); fail == nil || fail.Kind != kind {
			t.Errorf("%s was answered with %+v, not %s", c, fail, kind)
		}
	}
	name, password := "berta", "neu"
	do(guestapi.CmdCreateDatabase, []trove.Database{{Name: "logs"}, {Name: "tmp"}})
	refused(guestapi.CmdCreateDatabase, []trove.Database{{Name: "logs"}}, trove.KindConflict)
	do(guestapi.CmdDropDatabase, guestapi.NameArgs{Name: "tmp"})
	refused(guestapi.CmdDropDatabase, guestapi.NameArgs{Name: "tmp"}, trove.KindNotFound)
	do(guestapi.CmdCreateUser, []guestapi.UserArgs{{Name: "bert", Host: "10.0.0.%", Password: "x"}})
	do(guestapi.CmdGrant, guestapi.GrantArgs{UserRef: guestapi.UserRef{Name: "anna"}, Databases: []string{"logs"}})
	do(guestapi.CmdRevoke, guestapi.GrantArgs{UserRef: guestapi.UserRef{Name: "anna"}, Databases: []string{"shop"}})
	refused(guestapi.CmdRevoke, guestapi.GrantArgs{UserRef: guestapi.UserRef{Name: "anna"}, Databases: []string{"a", "b"}}, trove.KindBadRequest)
	do(guestapi.CmdUpdateUser, guestapi.UpdateUserArgs{UserRef: guestapi.UserRef{Name: "bert", Host: "10.0.0.%"}, NewName: &name, NewPassword: &password})
	refused(guestapi.CmdDropUser, guestapi.UserRef{Name: "bert"}, trove.KindNotFound)
	refused(guestapi.CmdCreateUser, "no list", trove.KindBadRequest)
	refused(guestapi.CmdEnableRoot, guestapi.RootArgs{}, trove.KindBadRequest)
	do(guestapi.CmdEnableRoot, guestapi.RootArgs{Password: "w"})
	if on, _ := ask[bool](g, guestapi.CmdRootEnabled, "1", nil); !on {
		t.Error("root is not enabled")
	}
	do(guestapi.CmdDisableRoot, nil)
	refused("dance", nil, trove.KindNotImplemented)
	refused(guestapi.CmdRenewIdentity, bus.Credential{}, trove.KindNotImplemented)
	users, _ := ask[[]trove.User](g, guestapi.CmdListUsers, "1", nil)
	want := []trove.User{{Name: "anna", Host: "%", Databases: []string{"logs"}}, {Name: "berta", Host: "10.0.0.%"}}
	if d := cmp.Diff(want, users); d != "" {
		t.Error("users (-want +got):\n" + d)
	}
	databases, _ := ask[[]trove.Database](g, guestapi.CmdListDatabases, "1", nil)
	if len(databases) != 2 || databases[0].Name != "logs" {
		t.Errorf("databases are %+v", databases)
	}
}

func TestNewIdentityIsUsedAfterTheAnswer(t *testing.T) {
	g := newGuest(t)
	used := make(chan bus.Credential, 1)
	g.cfg.Renew = func(_ context.Context, c bus.Credential) (func(), error) {
		return func() { used <- c }, nil
	}
	g.start()
	if _, fail := ask[any](g, guestapi.CmdRenewIdentity, "1", bus.Credential{JWT: "new"}); fail != nil {
		t.Fatal(fail)
	}
	if c := <-used; c.JWT != "new" {
		t.Errorf("the credential is %+v", c)
	}
}

func TestDriverThatPanics(t *testing.T) {
	g := newGuest(t)
	g.cfg.Engine = panicking{g.fake}
	g.start()
	end := g.long(guestapi.CmdPrepare, "op/prepare", prepareArgs())
	if end.State != guestapi.StateFailed || strings.Contains(end.Error.Message, "secret detail") {
		t.Errorf("prepare ended with %+v %+v", end, end.Error)
	}
}

type panicking struct{ *fake.Engine }

func (panicking) Prepare(context.Context, engine.Layout, engine.Preparation) error {
	panic("secret detail")
}

func TestOldEntriesArePruned(t *testing.T) {
	g := newGuest(t)
	g.start()
	for i := range 205 {
		g.long(guestapi.CmdRestart, fmt.Sprintf("op/%03d", i), nil) // fails: not prepared
	}
	g.until("200 entries", func() bool {
		files, err := os.ReadDir(filepath.Join(g.layout.State, "journal"))
		return err == nil && len(files) == 200
	})
	state := func(id string) guestapi.OperationState {
		status, _ := ask[guestapi.OperationStatus](g, guestapi.CmdStatus, "s", guestapi.StatusArgs{ID: id})
		return status.State
	}
	g.until("the fifth is forgotten", func() bool { return state("op/004") == guestapi.StateUnknown })
	if s := state("op/005"); s != guestapi.StateFailed {
		t.Errorf("the sixth is %q", s)
	}
}

func TestDamagedJournal(t *testing.T) {
	g := newGuest(t)
	dir := filepath.Join(g.layout.State, "journal")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"op-half.json": `{"seq":`, ".op-x.json.123": "{}", "op-..%2Fother.json": `{"seq":1,"status":{"id":"x"}}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g.start()
	if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
		t.Errorf("the journal holds %v, %v", files, err)
	}
}

func TestOperationIDsAreNoPaths(t *testing.T) {
	g := newGuest(t)
	g.start()
	for _, id := range []string{"../../escape", "..", ".", "/", "a\x00b", strings.Repeat("/", 76)} {
		if end := g.long(guestapi.CmdRestart, id, nil); end.ID != id {
			t.Errorf("%q ended as %+v", id, end)
		}
	}
	for _, id := range []string{"", strings.Repeat("x", 77)} {
		_, fail := ask[guestapi.OperationStatus](g, guestapi.CmdRestart, id, nil)
		if fail == nil || fail.Kind != trove.KindBadRequest {
			t.Errorf("%q was answered with %+v", id, fail)
		}
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(g.layout.Data), "*"))
	if err != nil || len(files) != 2 {
		t.Errorf("beside data and run there is %v, %v", files, err)
	}
}

func TestNewerControllerIsUnderstood(t *testing.T) {
	g := newGuest(t)
	g.start()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	answer, err := g.ctl.Request(ctx, guestapi.CommandSubject(g.id), []byte(`{"v":2,"id":"1","command":"ping","new":{"field":1}}`))
	var resp guestapi.Response
	if err == nil {
		err = json.Unmarshal(answer, &resp)
	}
	if err != nil || resp.Error != nil {
		t.Errorf("it was answered with %s, %v", answer, err)
	}
}

// breaking is an engine whose Configure breaks the journal.
type breaking struct {
	*fake.Engine
	journal string
}

func (e breaking) Configure(ctx context.Context, l engine.Layout, s engine.Settings) error {
	if err := os.RemoveAll(e.journal); err != nil {
		return err
	}
	return e.Engine.Configure(ctx, l, s)
}

func TestEndThatCannotBeRecordedIsReported(t *testing.T) {
	g := newGuest(t)
	g.cfg.Engine = breaking{g.fake, filepath.Join(g.layout.State, "journal")}
	g.prepared()
	if end := g.long(guestapi.CmdConfigure, "op/configure", guestapi.ConfigureArgs{}); end.State != guestapi.StateDone {
		t.Errorf("it ended with %+v", end)
	}
	_, fail := ask[guestapi.OperationStatus](g, guestapi.CmdRestart, "op2/restart", nil)
	if fail == nil || fail.Kind != trove.KindInternal {
		t.Errorf("what cannot be recorded was answered with %+v", fail)
	}
}
