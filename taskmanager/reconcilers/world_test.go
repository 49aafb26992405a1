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

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/fake"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/engineca"
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

	takesNone    error // what RequestCertificate answers
	certificates []string
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

func (g *guests) RequestCertificate(context.Context, string) (guestapi.CertificateRequest, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.takesNone != nil {
		return guestapi.CertificateRequest{}, g.takesNone
	}
	return guestapi.CertificateRequest{CSR: "a request"}, nil
}

func (g *guests) UseCertificate(_ context.Context, _ string, args guestapi.CertificateArgs) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refusing {
		return bus.ErrNoResponder
	}
	g.certificates = append(g.certificates, args.Certificate)
	return nil
}

// certifier signs for a day.
type certifier struct {
	now       func() time.Time
	authority string
	asked     []engineca.Request
	during    func() // called before it answers
}

func (c *certifier) Current(context.Context) (string, error) { return c.authority, nil }
func (c *certifier) RenewBefore() time.Time                  { return c.now().Add(8 * time.Hour) }

func (c *certifier) Sign(_ context.Context, r engineca.Request) (engineca.Signed, error) {
	c.asked = append(c.asked, r)
	if c.during != nil {
		c.during()
	}
	return engineca.Signed{Chain: []byte("signed by " + c.authority), AuthorityID: c.authority, Ends: c.now().Add(24 * time.Hour)}, nil
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
	lists  *lists
	guests *guests
	issuer *issuer
	signer *certifier
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
	return newSweepingWorld(t, 0)
}

// newSweepingWorld is a world in which the cloud is listed so seldom.
func newSweepingWorld(t *testing.T, sweep time.Duration) *world {
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
	w.lists = &lists{Cloud: w.cloud}
	w.issuer, w.signer = &issuer{now: w.clock.Now}, &certifier{now: w.clock.Now, authority: "a"}
	w.Loop, err = reconcilers.New(reconcilers.Config{
		Store: s, Cloud: w.lists, Sweep: sweep, Guests: w.guests, Issuer: w.issuer, Enrolment: enrolment{}, Certifier: w.signer, Clock: w.clock,
		Log: slog.New(slog.NewTextHandler(w.log, nil)), Deletes: w.queue, Wake: func() { w.woken.Add(1) }, Grace: grace, Hold: func(context.Context) bool { return w.held.Load() }, KeepUpgraded: 7 * 24 * time.Hour,
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
