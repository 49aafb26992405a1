package reconcilers_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/fake"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/taskmanager/reconcilers"
)

const (
	id        = "11111111-1111-4111-8111-111111111111"
	other     = "99999999-9999-4999-8999-999999999999"
	versionID = "22222222-2222-4222-8222-222222222222"
	grace     = 10 * time.Minute
)

var flavor = trove.Flavor{ID: "1", Name: "db.tiny", RAM: 512, VCPUs: 1}

// guests are guests that answer or do not, and keep what they were handed.
type guests struct {
	mu       sync.Mutex
	silent   bool
	pings    int
	handed   []bus.Credential
	refusing bool

	told   []guestapi.ApplyConfigurationArgs
	answer guestapi.ConfigurationApplied
	tell   error  // what ApplyConfiguration answers
	during func() // called by it before it answers
}

func (g *guests) ApplyConfiguration(_ context.Context, _ string, args guestapi.ApplyConfigurationArgs) (guestapi.ConfigurationApplied, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.told = append(g.told, args)
	if g.during != nil {
		g.during()
	}
	return g.answer, g.tell
}

func (g *guests) Ping(context.Context, string) (guestapi.Hello, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pings++
	if g.silent {
		return guestapi.Hello{}, bus.ErrNoResponder
	}
	return guestapi.Hello{}, nil
}

func (g *guests) RenewIdentity(_ context.Context, _ string, c bus.Credential) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refusing {
		return bus.ErrNoResponder
	}
	g.handed = append(g.handed, c)
	return nil
}

// issuer makes credentials that live for a day.
type issuer struct {
	now     func() time.Time
	address string // "": it does not say what credentials tell
}

func (i *issuer) IssueGuest(_ context.Context, instance, key string) (bus.Credential, error) {
	c := bus.Credential{JWT: instance + "/" + key, Expires: i.now().Add(24 * time.Hour)}
	if i.address != "" {
		c.Addresses = []string{i.address}
	}
	return c, nil
}
func (*issuer) RevokeGuest(context.Context, string, string) error { return nil }

func (i *issuer) Trust() string {
	if i.address == "" {
		return ""
	}
	return bus.TrustOf([]string{i.address}, nil, "")
}

type enrolment struct{}

func (enrolment) EnrolURLs() []string { return []string{"https://192.0.2.1:4223"} }
func (enrolment) CABundle() string    { return "a certificate" }

// world is a store, a fake cloud and the reconcilers, with a clock that stands.
type world struct {
	*reconcilers.Loop
	t      *testing.T
	store  *sqlstore.Store
	cloud  *fake.Cloud
	guests *guests
	issuer *issuer
	clock  *clock.Manual
	queue  *reconcilers.Queue
	log    *text
	held   atomic.Bool // nothing unknown is removed
	woken  atomic.Int64
}

// text is a log that may be written and read at the same time.
type text struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *text) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *text) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(t.TempDir(), "store.db"), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{
		t: t, store: s, guests: &guests{}, clock: clock.NewManual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)), queue: reconcilers.NewQueue(),
		cloud: fake.New(fake.Options{Flavors: []trove.Flavor{flavor}, Images: []string{"image-1"}, Domain: "db.example"}), log: &text{},
	}
	w.issuer = &issuer{now: w.clock.Now}
	w.Loop, err = reconcilers.New(reconcilers.Config{
		Store: s, Cloud: w.cloud, Guests: w.guests, Issuer: w.issuer, Enrolment: enrolment{}, Clock: w.clock,
		Log: slog.New(slog.NewTextHandler(w.log, nil)), Deletes: w.queue, Wake: func() { w.woken.Add(1) }, Grace: grace, Hold: w.held.Load,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.tx(func(ctx context.Context, tx store.Tx) error {
		return errors.Join(
			tx.PutDatastore(ctx, trove.Datastore{ID: "33333333-3333-4333-8333-333333333333", Name: "mariadb"}),
			tx.PutDatastoreVersion(ctx, trove.DatastoreVersion{
				ID: versionID, DatastoreID: "33333333-3333-4333-8333-333333333333", Name: "10.11", Manager: "fake", ImageID: "image-1", Active: true,
				Capabilities: trove.Capabilities{Port: 3306, Volume: true},
			}),
			tx.TakeQuota(ctx, "p1", map[string]int{trove.QuotaInstances: 1}),
			tx.InsertInstance(ctx, trove.Instance{
				ID: id, ProjectID: "p1", Name: "db", Created: w.clock.Now(), Updated: w.clock.Now(), Task: trove.TaskNone, ServerStatus: trove.ServerActive,
				DatastoreVersionID: versionID, FlavorID: flavor.ID, VolumeSize: 1, Access: trove.Access{AllowedCIDRs: []string{"10.9.0.0/16"}}, ServerID: 7,
				Held: map[string]int{trove.QuotaInstances: 1},
			}))
	})
	return w
}

func (w *world) tx(fn func(context.Context, store.Tx) error) {
	w.t.Helper()
	if err := w.store.InTx(w.t.Context(), fn); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) instance() trove.Instance {
	w.t.Helper()
	i, err := w.store.Instance(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return i
}

func (w *world) change(change func(*trove.Instance)) {
	w.t.Helper()
	w.tx(func(ctx context.Context, tx store.Tx) error {
		return tx.UpdateInstance(ctx, id, w.clock.Now(), func(i *trove.Instance) error { change(i); return nil })
	})
}

// heartbeat lets the guest say that all is well.
func (w *world) heartbeat() {
	w.t.Helper()
	w.tx(func(ctx context.Context, tx store.Tx) error {
		return tx.RecordReports(ctx, []store.GuestReport{{InstanceID: id, SeenAt: w.clock.Now(), BootID: "b", Service: trove.ServiceHealthy}})
	})
}

// make makes network, volume and machine of an instance.
func (w *world) make(instance string) {
	w.t.Helper()
	ctx := w.t.Context()
	_, err1 := w.cloud.EnsureNetwork(ctx, cloud.NetworkSpec{Instance: instance, Project: "p1", TCPPorts: []int{3306}})
	_, err2 := w.cloud.EnsureVolume(ctx, cloud.VolumeSpec{Instance: instance, Project: "p1", SizeGiB: 1, ImageID: "image-1"})
	_, err3 := w.cloud.EnsureMachine(ctx, cloud.MachineSpec{Instance: instance, Project: "p1", ImageID: "image-1", Flavor: flavor, BootData: []byte("first")})
	if err := errors.Join(err1, err2, err3); err != nil {
		w.t.Fatal(err)
	}
}

// left returns what the cloud has of an instance.
func (w *world) left(instance string) []string {
	return slices.DeleteFunc(w.cloud.Leftovers(), func(thing string) bool { return !strings.HasSuffix(thing, instance) })
}

func (w *world) enqueue(kind string) string {
	w.t.Helper()
	var op string
	w.tx(func(ctx context.Context, tx store.Tx) (err error) {
		op, err = workflow.Enqueue(ctx, tx, w.clock.Now(), workflow.Request{Kind: kind, Target: id, ProjectID: "p1"})
		return err
	})
	return op
}

func (w *world) once() {
	w.t.Helper()
	if err := w.Once(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// enrolled lets the guest of an instance enrol; its credential lives for a day.
func (w *world) enrolled(instance string) {
	w.t.Helper()
	w.tx(func(ctx context.Context, tx store.Tx) error {
		err := tx.PutEnrolmentToken(ctx, instance, "hash", w.clock.Now().Add(time.Minute))
		if err == nil {
			_, err = tx.UseEnrolmentToken(ctx, "hash", "KEY", w.clock.Now())
		}
		return errors.Join(err, tx.SetGuestCredential(ctx, instance, w.clock.Now().Add(24*time.Hour)))
	})
}

func (w *world) credentials() {
	w.t.Helper()
	if err := w.Credentials.Once(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) state() cloud.MachineState {
	w.t.Helper()
	m, err := w.cloud.FindMachine(w.t.Context(), id)
	if trove.IsNotFound(err) {
		return "gone"
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return m.State
}

func TestMachineStoppedComesBack(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.heartbeat()
	w.cloud.CrashMachine(id, "the host restarted")
	w.clock.Add(time.Second)
	w.once()
	if got := w.state(); got != cloud.MachineRunning {
		t.Errorf("the machine is %s", got)
	}
	if got := w.instance().Guest.Service; got != trove.ServiceShutdown {
		t.Errorf("the service status is %q until the guest says something", got)
	}
	if access, ports, ok := w.cloud.Rules(id); !ok || !slices.Equal(ports, []int{3306}) || !slices.Equal(access.AllowedCIDRs, []string{"10.9.0.0/16"}) {
		t.Errorf("network: %v %v %v", access, ports, ok)
	}
	if _, err := w.store.OpenOperation(t.Context(), id); !trove.IsNotFound(err) {
		t.Errorf("an operation is open: %v", err)
	}
	w.clock.Add(time.Second)
	w.heartbeat()
	i := w.instance()
	if got := i.OperatingStatus(w.clock.Now()); got != "HEALTHY" {
		t.Errorf("after the next heartbeat operating_status is %q", got)
	}
}

func TestMachineGoneIsMadeAgainWithAToken(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.cloud.VanishMachine(id)
	w.once()
	if got := w.state(); got != cloud.MachineRunning {
		t.Fatalf("the machine is %s", got)
	}
	boot := string(w.cloud.BootData(id))
	_, token, _ := strings.Cut(boot, `"token":"`)
	token, _, _ = strings.Cut(token, `"`)
	w.tx(func(ctx context.Context, tx store.Tx) error {
		owner, err := tx.UseEnrolmentToken(ctx, bus.HashToken(trove.Secret(token)), "KEY", w.clock.Now())
		if err == nil && owner != id {
			t.Errorf("the token is for %s", owner)
		}
		return err
	})
}

func TestMachineLeftAlone(t *testing.T) {
	for name, change := range map[string]func(*world){
		"while an operation is open": func(w *world) { w.enqueue(trove.OpRestart) },
		"while it is resized":        func(w *world) { w.change(func(i *trove.Instance) { i.Task = trove.TaskResizing }) },
		"of a create that failed": func(w *world) {
			w.change(func(i *trove.Instance) { i.Task, i.ServerStatus = trove.TaskBuildErrorServer, trove.ServerNone })
		},
		"of an instance that was stopped": func(w *world) { w.change(func(i *trove.Instance) { i.ServerStatus = trove.ServerShutdown }) },
		"of a failed create with reset status": func(w *world) {
			w.change(func(i *trove.Instance) { i.ServerStatus = trove.ServerNone })
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.make(id)
			w.cloud.CrashMachine(id, "ended")
			change(w)
			w.once()
			if got := w.state(); got != cloud.MachineStopped {
				t.Errorf("the machine is %s", got)
			}
		})
	}
}

// TestStoppedInstanceIsQuiet: nobody asks after the guest of an instance that was stopped, renews its credential, calls it an error or removes what it has.
func TestStoppedInstanceIsQuiet(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.tx(func(ctx context.Context, tx store.Tx) error {
		err := tx.PutEnrolmentToken(ctx, id, "hash", w.clock.Now().Add(time.Minute))
		if err == nil {
			_, err = tx.UseEnrolmentToken(ctx, "hash", "KEY", w.clock.Now())
		}
		return errors.Join(err, tx.SetGuestCredential(ctx, id, w.clock.Now().Add(time.Hour)))
	})
	w.heartbeat()
	if err := w.cloud.StopMachine(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	w.change(func(i *trove.Instance) { i.ServerStatus = trove.ServerShutdown })
	left := w.left(id)
	for range 3 {
		w.once()
		w.clock.Add(40 * 24 * time.Hour)
	}
	i := w.instance()
	if i.Status(false) != "SHUTDOWN" || i.OperatingStatus(w.clock.Now()) != "SHUTDOWN" || i.Fault != nil {
		t.Errorf("status %s %s, fault %+v", i.Status(false), i.OperatingStatus(w.clock.Now()), i.Fault)
	}
	if w.state() != cloud.MachineStopped || w.guests.pings != 0 || len(w.guests.handed) != 0 {
		t.Errorf("the machine is %s, %d pings, %d credentials", w.state(), w.guests.pings, len(w.guests.handed))
	}
	if diff := cmp.Diff(left, w.left(id)); diff != "" {
		t.Errorf("in the cloud (-before +after):\n%s", diff)
	}
	if log := w.log.String(); strings.Contains(log, "WARN") || strings.Contains(log, "silent") {
		t.Errorf("it was noted:\n%s", log)
	}
}

// TestStoppedInstanceThatRuns: a store that is older than the start does not cost anybody the database.
func TestStoppedInstanceThatRuns(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.heartbeat()
	w.change(func(i *trove.Instance) { i.ServerStatus = trove.ServerShutdown })
	w.once()
	if i := w.instance(); i.Status(false) != "ACTIVE" || w.state() != cloud.MachineRunning {
		t.Errorf("status %s, machine %s", i.Status(false), w.state())
	}
}

func TestMachineFailedShowsError(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.cloud.FailMachine(id, "the disk is gone")
	w.once()
	i := w.instance()
	if i.Status(false) != "ERROR" || i.Fault == nil || !strings.Contains(i.Fault.Message, "the disk is gone") {
		t.Errorf("status %s, fault %+v", i.Status(false), i.Fault)
	}
	if err := w.cloud.RebootMachine(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	w.once()
	if i := w.instance(); i.Status(false) != "ACTIVE" {
		t.Errorf("when the machine runs again the status is %s", i.Status(false))
	}
}

// TestVolumeGoneIsNotMadeAnew: an empty volume would hide that the data is gone.
func TestVolumeGoneIsNotMadeAnew(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	if err := errors.Join(w.cloud.RemoveMachine(t.Context(), id), w.cloud.RemoveVolume(t.Context(), id)); err != nil {
		t.Fatal(err)
	}
	w.once()
	i := w.instance()
	if i.Status(false) != "ERROR" || i.Fault == nil || !strings.Contains(i.Fault.Message, "volume") || w.state() != "gone" {
		t.Errorf("status %s, fault %+v, machine %s", i.Status(false), i.Fault, w.state())
	}
	if _, err := w.cloud.FindVolume(t.Context(), id); !trove.IsNotFound(err) {
		t.Errorf("the volume was made anew: %v", err)
	}
}

// TestMachineOfDeletedInstance deletes the row while the machine is brought back: nothing stays.
func TestMachineOfDeletedInstance(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.cloud.VanishMachine(id)
	w.cloud.SetBoot(func(string, []byte) {
		w.tx(func(ctx context.Context, tx store.Tx) error { return tx.DeleteInstance(ctx, id, w.clock.Now()) })
	}, nil)
	w.once()
	if left := w.cloud.Leftovers(); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestDeleteWithoutOperation(t *testing.T) {
	w := newWorld(t)
	w.change(func(i *trove.Instance) { i.Task = trove.TaskDeleting })
	w.once()
	open, err := w.store.OpenOperation(t.Context(), id)
	if err != nil || open.Kind != trove.OpDelete || open.ProjectID != "p1" {
		t.Fatalf("open operation %+v, %v", open, err)
	}
	if n := w.woken.Load(); n != 1 {
		t.Errorf("woken %d times", n)
	}
	w.once() // it is open now
	if again, err := w.store.OpenOperation(t.Context(), id); err != nil || again.ID != open.ID || again.Cancelled {
		t.Errorf("the second look left %+v, %v", again, err)
	}
}

func TestDeleteCancelsWhatIsOpen(t *testing.T) {
	w := newWorld(t)
	op := w.enqueue(trove.OpRestart)
	w.change(func(i *trove.Instance) { i.Task = trove.TaskDeleting })
	if err := w.Deletes.ReconcileOne(t.Context(), id); !errors.Is(err, store.ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
	open, err := w.store.Operation(t.Context(), op)
	if err != nil || !open.Cancelled {
		t.Errorf("the restart is %+v, %v", open, err)
	}
}

func TestDeleteOnlyWhatShallBe(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	if err := w.Deletes.ReconcileOne(t.Context(), id); err != nil {
		t.Error(err)
	}
	if _, err := w.store.OpenOperation(t.Context(), id); !trove.IsNotFound(err) {
		t.Errorf("an operation is open: %v", err)
	}
	if err := w.Deletes.ReconcileOne(t.Context(), other); err != nil {
		t.Errorf("of an instance that is gone: %v", err)
	}
}

func TestStuckTaskIsFreed(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.change(func(i *trove.Instance) { i.Task = trove.TaskResizing })
	w.once()
	if got := w.instance().Task; got != trove.TaskResizing {
		t.Errorf("at once the task is %s", got.Action())
	}
	w.clock.Add(2 * time.Minute)
	op := w.enqueue(trove.OpRestart)
	w.once()
	if got := w.instance().Task; got != trove.TaskResizing {
		t.Errorf("with an operation the task is %s", got.Action())
	}
	w.close(op)
	w.once()
	if i := w.instance(); i.Task != trove.TaskNone || i.Fault == nil || !strings.Contains(i.Fault.Message, "RESIZING") {
		t.Errorf("without one the task is %s, the fault %+v", i.Task.Action(), i.Fault)
	}
	w.change(func(i *trove.Instance) { i.Task = trove.TaskBuilding })
	w.clock.Add(2 * time.Minute)
	w.once()
	if i := w.instance(); i.Status(false) != "ERROR" {
		t.Errorf("a build without an operation is %s", i.Status(false))
	}
}

// close ends an operation as a worker would.
func (w *world) close(op string) {
	w.t.Helper()
	due, err := w.store.DueOperations(w.t.Context(), w.clock.Now(), 10)
	if err != nil || len(due) != 1 || due[0].ID != op {
		w.t.Fatalf("due: %v, %v", due, err)
	}
	w.tx(func(ctx context.Context, tx store.Tx) error {
		row, err := tx.ClaimOperation(ctx, due[0], "me", w.clock.Now().Add(time.Minute))
		if err != nil {
			return err
		}
		return tx.CloseOperation(ctx, row, trove.OperationFailed, w.clock.Now())
	})
}

func TestSilenceIsNotedOnce(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.heartbeat()
	w.guests.silent = true
	w.once()
	if w.guests.pings != 0 {
		t.Error("a guest that reports was asked")
	}
	w.clock.Add(trove.HeartbeatExpiry + time.Second)
	w.once()
	w.once()
	if n := strings.Count(w.log.String(), "guest was silent"); n != 1 || w.guests.pings != 1 {
		t.Errorf("noted %d times, asked %d times", n, w.guests.pings)
	}
	if got := w.state(); got != cloud.MachineRunning {
		t.Errorf("the machine of a silent guest is %s", got)
	}
	w.heartbeat()
	w.once()
	if !strings.Contains(w.log.String(), "guest was heard of again") {
		t.Error("the end of the silence was not noted")
	}
}

func TestCredentialIsRenewedAtHalfLife(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.enrolled(id)
	w.heartbeat()
	w.credentials()
	if len(w.guests.handed) != 0 {
		t.Fatal("a fresh credential was renewed")
	}
	w.clock.Add(12*time.Hour + time.Minute)
	w.heartbeat()
	w.guests.refusing = true
	w.credentials()
	if g, err := w.store.Guest(t.Context(), id); err != nil || g.CredentialEnds.Sub(w.clock.Now()) > 12*time.Hour {
		t.Errorf("a credential that the guest did not take was noted: %+v, %v", g, err)
	}
	w.guests.refusing = false
	w.credentials()
	w.credentials()
	want := []bus.Credential{{JWT: id + "/KEY", Expires: w.clock.Now().Add(24 * time.Hour)}}
	if diff := cmp.Diff(want, w.guests.handed); diff != "" {
		t.Errorf("handed to the guest (-want +got):\n%s", diff)
	}
	if g, err := w.store.Guest(t.Context(), id); err != nil || !g.CredentialEnds.Equal(want[0].Expires) {
		t.Errorf("noted %+v, %v", g, err)
	}
}

// TestCredentialIsRenewedWhenThereIsNews has the issuer tell of another address.
func TestCredentialIsRenewedWhenThereIsNews(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.enrolled(id)
	w.heartbeat()
	w.issuer.address = "192.0.2.1:4222"
	w.credentials()
	if n := len(w.guests.handed); n != 1 {
		t.Fatalf("%d credentials were handed out, want 1", n)
	}
	g, err := w.store.Guest(t.Context(), id)
	if err != nil || g.Trust != w.guests.handed[0].Trust() {
		t.Errorf("noted %+v, %v", g, err)
	}
	w.credentials()
	w.clock.Add(time.Hour)
	w.heartbeat()
	w.credentials()
	if n := len(w.guests.handed); n != 1 {
		t.Errorf("%d credentials were handed out without news", n)
	}
}

// TestACopiedMachineIsNotRenewed has two machines report in turn.
func TestACopiedMachineIsNotRenewed(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.enrolled(id)
	for _, boot := range []string{"a", "b", "a", "b"} {
		w.clock.Add(time.Second)
		w.tx(func(ctx context.Context, tx store.Tx) error {
			return tx.RecordReports(ctx, []store.GuestReport{{InstanceID: id, SeenAt: w.clock.Now(), BootID: boot, Service: trove.ServiceHealthy}})
		})
	}
	w.clock.Add(13 * time.Hour)
	w.heartbeat()
	w.credentials()
	w.clock.Add(time.Hour)
	w.heartbeat()
	w.credentials()
	if len(w.guests.handed) != 0 || strings.Count(w.log.String(), "alarm: two machines") != 1 {
		t.Errorf("%d credentials were handed out; the log:\n%s", len(w.guests.handed), w.log)
	}
	if err := w.store.ClearGuest(t.Context(), id, w.clock.Now()); err != nil {
		t.Fatal(err)
	}
	w.clock.Add(time.Hour)
	w.heartbeat()
	w.credentials()
	if len(w.guests.handed) != 1 {
		t.Errorf("%d credentials were handed out after the copy was removed, want 1", len(w.guests.handed))
	}
}

func TestLeftoversAreRemovedAfterTheGrace(t *testing.T) {
	for name, c := range map[string]struct {
		instance string
		arrange  func(*world)
		after    time.Duration // when it is gone; 0: never
	}{
		"of a living instance": {instance: id, arrange: func(*world) {}},
		"of a deleted instance": {instance: id, after: grace, arrange: func(w *world) {
			w.close(w.enqueue(trove.OpDelete))
			w.tx(func(ctx context.Context, tx store.Tx) error { return tx.DeleteInstance(ctx, id, w.clock.Now()) })
		}},
		"of a create that failed": {instance: id, after: grace, arrange: func(w *world) {
			w.change(func(i *trove.Instance) { i.Task, i.ServerStatus = trove.TaskBuildErrorServer, trove.ServerNone })
		}},
		"of a create that is open": {instance: id, arrange: func(w *world) {
			w.change(func(i *trove.Instance) { i.Task, i.ServerStatus = trove.TaskBuildErrorServer, trove.ServerNone })
			w.enqueue(trove.OpCreate)
		}},
		"of an instance that the store never knew": {instance: other, after: 24 * time.Hour, arrange: func(*world) {}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.make(c.instance)
			if _, err := w.cloud.EnsureName(t.Context(), c.instance, nil); err != nil {
				t.Fatal(err)
			}
			c.arrange(w)
			all := w.left(c.instance)
			w.once()
			w.clock.Add(c.after - time.Second)
			w.once()
			if diff := cmp.Diff(all, w.left(c.instance)); diff != "" {
				t.Fatalf("within the grace (-want +got):\n%s", diff)
			}
			w.clock.Add(time.Second)
			if c.after == 0 {
				w.clock.Add(100 * time.Hour)
			}
			w.once()
			if left := w.left(c.instance); (len(left) == 0) != (c.after > 0) {
				t.Errorf("after the grace there is %v", left)
			}
		})
	}
}

// TestNothingUnknownIsRemovedWhileARestoreIsNotFinished: the grace begins when it is.
func TestNothingUnknownIsRemovedWhileARestoreIsNotFinished(t *testing.T) {
	w := newWorld(t)
	w.held.Store(true)
	w.make(other)
	all := w.left(other)
	for range 3 {
		w.once()
		w.clock.Add(100 * time.Hour)
	}
	if told := strings.Count(w.log.String(), other); told != 1 {
		t.Errorf("the log tells of it %d times, want once:\n%s", told, w.log)
	}
	w.held.Store(false)
	w.once()
	w.clock.Add(23 * time.Hour)
	w.once()
	if diff := cmp.Diff(all, w.left(other)); diff != "" {
		t.Fatalf("within a day of the end of the restore (-want +got):\n%s", diff)
	}
	w.clock.Add(time.Hour)
	w.once()
	if left := w.left(other); len(left) > 0 {
		t.Errorf("a day after it there is %v", left)
	}
}

// TestLoopGoesOn looks at everything although one instance cannot be repaired, and deletes what comes into the queue without waiting for the interval.
func TestLoopGoesOn(t *testing.T) {
	w := newWorld(t)
	w.make(id)
	w.cloud.CrashMachine(id, "ended")
	w.cloud.FailAlways("EnsureNetwork", errors.New("the switch is off"))
	w.once()
	if !strings.Contains(w.log.String(), "the switch is off") {
		t.Error("the failure was not logged")
	}
	w.cloud.FailAlways("EnsureNetwork", nil)
	w.once()
	if got := w.state(); got != cloud.MachineRunning {
		t.Errorf("the machine is %s", got)
	}
}

func TestQueueBeginsDeletesAtOnce(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	w.change(func(i *trove.Instance) { i.Task = trove.TaskDeleting })
	w.queue.Add(id)
	deadline := time.Now().Add(10 * time.Second)
	for {
		if open, err := w.store.OpenOperation(t.Context(), id); err == nil && open.Kind == trove.OpDelete {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no delete was begun")
		}
		if err := clock.Sleep(ctx, 5*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	<-done
}
