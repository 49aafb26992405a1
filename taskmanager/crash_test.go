package taskmanager_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/taskmanager/guesttest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// walked are the operations that the crash walk goes through.
var walked = []string{
	trove.OpCreate, trove.OpDelete, trove.OpRestart, trove.OpStop, trove.OpStart, trove.OpResizeFlavor, shrinkFlavor, trove.OpResizeVolume,
	trove.OpUpdateAccess, trove.OpUpgradeAgent, stoppedDelete, stoppedVolume, stoppedFlavor,
	trove.OpStopEngine, trove.OpReboot, trove.OpRebuild, trove.OpMigrate,
	trove.OpUpgrade, trove.OpUpgradeRollback, trove.OpUpgradeConfirm,
}

// TestStepNames keeps the names of steps frozen: they are stored in databases.
func TestStepNames(t *testing.T) {
	const golden = "testdata/steps.golden"
	var got string
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.TempDir())
		defer w.close()
		m := w.start()
		defer m.stop()
		got = workflow.StepNames(m.Definitions()...)
	})
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("step names are stored and frozen; a change needs a migration (-want +got):\n%s", diff)
	}
}

// state is all that an operation can change, without what differs from run to run.
type state struct {
	Operation trove.OperationState
	Instance  *trove.Instance // nil: deleted
	Service   trove.ServiceStatus
	Quotas    map[string]int // in use
	Cloud     []string
	Access    trove.Access
	Ports     []int
	Machine   string // flavor
	Host      string
	Power     cloud.MachineState
	VolumeGiB int
	Image     string           // of the machine
	Previous  string           // image that it sees
	Kept      trove.KeptData   // without its time
	Guest     guesttest.Volume // Runs by step
}

// look reads the state.
func (w *world) look(op trove.Operation) state {
	w.t.Helper()
	ctx := w.t.Context()
	s := state{Operation: op.State, Quotas: map[string]int{}, Cloud: w.cloud.Leftovers()}
	if i, err := w.store.Instance(ctx, instanceID); err == nil {
		s.Service = i.Guest.Service
		i.Created, i.Updated, i.Version, i.Guest = time.Time{}, time.Time{}, 0, trove.GuestState{}
		for _, id := range []*string{&i.ComputeID, &i.VolumeID} { // numbered in the order of the calls, which may differ
			if *id != "" {
				*id = "given"
			}
		}
		if i.Fault != nil {
			i.Fault.Created, i.Fault.Details = time.Time{}, ""
		}
		s.Instance = &i
	} else if !trove.IsNotFound(err) {
		w.t.Fatal(err)
	}
	quotas, err := w.store.Quotas(ctx, project)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, q := range quotas {
		s.Quotas[q.Resource] = q.InUse
	}
	s.Access, s.Ports, _ = w.cloud.Rules(instanceID)
	if m, err := w.cloud.FindMachine(ctx, instanceID); err == nil {
		s.Machine, s.Power, s.Image, s.Previous = m.FlavorID, m.State, m.ImageID, m.PreviousImageID
		s.Host, _ = w.cloud.MachineHost(ctx, instanceID)
	}
	if v, err := w.cloud.FindVolume(ctx, instanceID); err == nil {
		s.VolumeGiB = v.SizeGiB
	}
	if s.Kept, err = w.store.KeptData(ctx, instanceID); err != nil && !trove.IsNotFound(err) {
		w.t.Fatal(err)
	}
	s.Kept.Since = time.Time{}
	if v, ok := w.fleet.Volume(instanceID); ok && s.Instance != nil { // what a removed guest did last does not matter
		runs := v.Runs
		v.Runs, v.Key = map[string]int{}, ""
		for id, n := range runs {
			_, step, _ := strings.Cut(id, "/")
			v.Runs[step] += n
		}
		s.Guest = v
	}
	return s
}

// outcome is what one run of an operation led to.
type outcome struct {
	before, after state
	op            trove.Operation
	calls         []string // the outside calls of the operation
	messages      int      // on the bus
	restore       state    // after what the caller did at the end
}

// run carries out one operation in a world of its own, disturbed at the outside calls as asked. Everything before it is undisturbed. Then
// finally is called, if given, in that world.
func run(t *testing.T, dir, kind string, disturb func(n int, name string) disturbance, prepare, finally func(*world)) (out outcome) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		defer w.close()
		w.flavor = firstFlavor(kind)
		stop := w.runConductor()
		defer stop()
		if kind != trove.OpCreate {
			if op := w.carryOut(w.request(trove.OpCreate)); op.State != trove.OperationDone {
				t.Fatalf("create before %s: %+v", kind, op)
			}
			if beginsStopped(kind) {
				if op := w.carryOut(w.request(trove.OpStop)); op.State != trove.OperationDone {
					t.Fatalf("stop before %s: %+v", kind, op)
				}
			}
			if beginsUpgraded(kind) {
				if op := w.carryOut(w.request(trove.OpUpgrade)); op.State != trove.OperationDone {
					t.Fatalf("upgrade before %s: %+v", kind, op)
				}
			}
			time.Sleep(15 * time.Second) //nolint:forbidigo // of the bubble's time: reports that are under way arrive
			out.before = w.look(trove.Operation{})
		}
		var messages atomic.Int64
		counter := w.broker.Conn("counter")
		defer func() { _ = counter.Close() }()
		if _, err := counter.Subscribe(t.Context(), ">", "", func(context.Context, bus.Message) { messages.Add(1) }); err != nil {
			t.Fatal(err)
		}
		if prepare != nil {
			prepare(w)
		}
		w.mu.Lock()
		w.calls, w.disturb = nil, disturb
		w.mu.Unlock()
		out.op = w.carryOut(w.request(kind))
		w.mu.Lock()
		out.calls, w.disturb = w.calls, nil
		w.mu.Unlock()
		// Reports that are under way still arrive.
		time.Sleep(15 * time.Second) //nolint:forbidigo // of the bubble's time
		out.messages = int(messages.Load())
		out.after = w.look(out.op)
		if finally != nil {
			finally(w)
			out.restore = w.look(out.op)
		}
	})
	return out
}

// undisturbed runs the operation as it should be, and checks that it did what it is for.
func undisturbed(t *testing.T, dir, kind string) outcome {
	t.Helper()
	out := run(t, dir, kind, nil, nil, nil)
	if out.op.State != trove.OperationDone {
		t.Fatalf("undisturbed %s: %+v", kind, out.op)
	}
	if len(out.calls) < 4 {
		t.Fatalf("undisturbed %s made only the calls %v", kind, out.calls)
	}
	checkDone(t, kind, out.after)
	return out
}

// checkDone checks the state after an operation that was done.
func checkDone(t *testing.T, kind string, s state) {
	t.Helper()
	if operationOf(kind) == trove.OpDelete {
		if s.Instance != nil || len(s.Cloud) > 0 || s.Quotas[trove.QuotaInstances]+s.Quotas[trove.QuotaRAM]+s.Quotas[trove.QuotaVolumes] > 0 {
			t.Errorf("after a delete there is still %+v", s)
		}
		return
	}
	ram, flavor, size, access := flavorSmall.RAM, flavorSmall.ID, 1, openToAll
	settings, status, service, power := &ram, "ACTIVE", trove.ServiceHealthy, cloud.MachineRunning
	if kind == trove.OpStop || beginsStopped(kind) && kind != trove.OpStart {
		status, service, power = "SHUTDOWN", trove.ServiceShutdown, cloud.MachineStopped
	}
	if kind == trove.OpStopEngine {
		service = trove.ServiceShutdown
	}
	if power == cloud.MachineRunning && s.Guest.Running != (service == trove.ServiceHealthy) || (s.Host == "h2") != (kind == trove.OpMigrate) {
		t.Errorf("after %s the engine runs: %t, on %s", kind, s.Guest.Running, s.Host)
	}
	switch kind {
	case stoppedFlavor: // the engine gets its settings when it is started
		ram, flavor, settings = flavorLarge.RAM, flavorLarge.ID, &flavorSmall.RAM
	case trove.OpResizeFlavor:
		ram, flavor = flavorLarge.RAM, flavorLarge.ID
	case trove.OpResizeVolume, stoppedVolume:
		size = 3
	case trove.OpUpdateAccess:
		access = openToOne
	}
	if agent := s.Guest.Agent; (kind == trove.OpUpgradeAgent) != (agent == newAgent) {
		t.Errorf("after %s the agent is %s", kind, agent)
	}
	checkVersion(t, kind, s)
	i := s.Instance
	got := []any{i.Status(false), s.Service, s.Power, i.FlavorID, s.Machine, i.VolumeSize, s.VolumeGiB, s.Guest.Settings.RAM, i.Access, s.Access, i.Fault == nil, i.Hostname}
	want := []any{status, service, power, flavor, flavor, size, size, *settings, access, access, true, instanceID + ".db.example"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("after %s (-want +got):\n%s", kind, diff)
	}
	wantQuotas := map[string]int{trove.QuotaInstances: 1, trove.QuotaRAM: ram, trove.QuotaVolumes: size, trove.QuotaBackups: 0}
	if diff := cmp.Diff(wantQuotas, s.Quotas); diff != "" {
		t.Errorf("quotas after %s (-want +got):\n%s", kind, diff)
	}
	p := s.Guest.Prepared
	if p == nil || len(p.Users) != 1 || p.Users[0].Password != password || p.RootPassword != password || len(p.Databases) != 1 || p.ServerID != 7 {
		t.Errorf("the guest was prepared with %+v", p)
	}
	if len(i.Addresses) != 1 || i.ComputeID == "" || i.VolumeID == "" {
		t.Errorf("the row lacks what the cloud gave: %+v", i)
	}
}

// TestCrashWalk stops the taskmanager before and after every outside call of every operation, and disturbs each call: the end is always the same.
func TestCrashWalk(t *testing.T) {
	dir := t.TempDir()
	for _, kind := range walked {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			want := undisturbed(t, dir, kind)
			walks, unreached := 0, 0
			for _, d := range []disturbance{killBefore, killAfter, loseReply, failTemporarily} {
				for at := range want.calls {
					if !chosen(at + int(d)) {
						continue
					}
					name := fmt.Sprintf("%s %d %s", d, at, want.calls[at])
					got := run(t, dir, kind, only(at, d), nil, nil)
					if diff := cmp.Diff(want.after, got.after); diff != "" {
						t.Errorf("%s: the end differs (-undisturbed +disturbed):\n%s\ncalls: %v", name, diff, got.calls)
					}
					walks++
					if len(got.calls) <= at { // when the guest is quicker, a create waits less often
						unreached++
					}
				}
			}
			if unreached*5 > walks {
				t.Errorf("%d of %d runs were shorter than the call that they should disturb", unreached, walks)
			}
			t.Logf("%d outside calls, %d disturbed runs, %d of them shorter", len(want.calls), walks, unreached)
		})
	}
}

// chosen says which calls are disturbed: all of them, or with the race detector or -short every fifth, because that takes ten times as long and
// looks for something else.
func chosen(at int) bool { return at%5 == 0 || !raceDetector && !testing.Short() }

// only disturbs one call.
func only(at int, d disturbance) func(int, string) disturbance {
	return func(n int, _ string) disturbance {
		if n == at {
			return d
		}
		return none
	}
}

// TestEveryCallKilled kills every taskmanager at its k-th call, again and again: each one gets a bit further.
func TestEveryCallKilled(t *testing.T) {
	dir := t.TempDir()
	for _, kind := range walked {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			want := undisturbed(t, dir, kind)
			for _, every := range []int{5, 7, 11} {
				got := run(t, dir, kind, func(n int, _ string) disturbance {
					if n%every == every-1 {
						return killAfter
					}
					return none
				}, nil, nil)
				if diff := cmp.Diff(want.after, got.after); diff != "" {
					t.Errorf("every %d: the end differs (-undisturbed +disturbed):\n%s\ncalls: %v", every, diff, got.calls)
				}
			}
		})
	}
}

// TestEveryMessageDisturbedOnce loses each message on the bus once, delivers it twice, and delivers it when nobody waits for it any more; and loses each
// answer once. The operation ends the same: the row, the quota, what the cloud has, and what the guest did and how often.
func TestEveryMessageDisturbedOnce(t *testing.T) {
	dir := t.TempDir()
	late := callLimit + time.Second
	for _, kind := range walked {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			want := undisturbed(t, dir, kind)
			runs := 0
			for what, knob := range map[string]func(*world, int){
				"lost":           func(w *world, n int) { w.broker.DropMessage(">", n) },
				"twice":          func(w *world, n int) { w.broker.DoubleMessage(">", n) },
				"late":           func(w *world, n int) { w.broker.DelayMessage(">", n, late) },
				"answer is lost": func(w *world, n int) { w.broker.DropReply(">", n) },
			} {
				for n := 1; n <= want.messages; n++ {
					if !chosen(n) {
						continue
					}
					runs++
					got := run(t, dir, kind, nil, func(w *world) { knob(w, n) }, nil)
					if diff := cmp.Diff(want.after, got.after); diff != "" {
						t.Errorf("message %d of %d: %s: the end differs (-undisturbed +disturbed):\n%s", n, want.messages, what, diff)
					}
				}
			}
			t.Logf("%d messages, %d runs", want.messages, runs)
		})
	}
}

// machineKinds are the operations that take the machine down and bring it up again.
var machineKinds = []string{trove.OpReboot, trove.OpRebuild, trove.OpMigrate}

// callLimit is how long a call to a guest may take.
const callLimit = 5 * time.Second

// tolerated are calls whose failure does not matter: a volume that was begun early, and what is only said for courtesy.
func tolerated(kind, call string, n int, calls []string) bool {
	switch {
	case kind == trove.OpUpgrade, kind == trove.OpUpgradeConfirm, kind == trove.OpUpgradeRollback && call == "Status":
		return false
	case call == "Status" && kind == trove.OpStart: // a guest that is not connected yet is asked for its command: that does matter
		return !slices.Contains(calls[n:], "StopMachine")
	case call == "Status" && slices.Contains(machineKinds, kind): // likewise; the undo looks for the volume before it brings the machine back
		return !slices.Contains(calls[n:], "FindVolume")
	case call == "EnsureNetwork" && kind == trove.OpReboot: // a machine whose network cannot be had is rebooted without
		return true
	case kind == trove.OpStopEngine: // that the engine stops is all that there is; the undo looks for the machine
		return call == "Status" && !slices.Contains(calls[n:], "FindMachine")
	case call == "Status", strings.HasPrefix(call, "Start stop"), call == "RequestCertificate": // a database without one makes its own
		return true
	case call == "EnsureVolume" && kind == trove.OpCreate:
		return !slices.Contains(calls[:n], "EnsureVolume")
	}
	return false
}
