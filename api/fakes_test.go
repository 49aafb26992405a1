package api_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/identity"
	"github.com/trove-dbaas/trove/identity/policy"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

// The fixed ids of the fixture.
const (
	project      = "414366e7996a4338b1360323b82b2e14"
	projectOther = "5d2be1f0b1f3427f9d3a5b0c7c1e2f30"
	projectAdmin = "6e3cf201c2a4538fae4b6c1d8d2f3041"
	networkID    = "0b5f1a52-4d0e-4f57-8f40-3a1c1a2b3c4d"
	subnetID     = "1c6f2b63-5e1f-4a68-9a51-4b2d2b3c4d5e"
	imageID      = "2d7f3c74-6f2a-4b79-ab62-5c3e3c4d5e6f"
	absentID     = "0000000f-7a3b-4c8a-bc73-6d4f4d5e6f70"
	authURL      = "http://identity.example:5000/v3"
)

// tokens are the callers that the fake identity knows.
var tokens = map[string]identity.Caller{
	"member":      {UserID: "u-member", ProjectID: project, Roles: []string{"member"}},
	"admin":       {UserID: "u-admin", ProjectID: project, Roles: []string{"admin"}},
	"other":       {UserID: "u-other", ProjectID: projectOther, Roles: []string{"member"}},
	"admin_other": {UserID: "u-admin-other", ProjectID: projectAdmin, Roles: []string{"admin"}},
}

// What the wiring hands to the API fits.
var (
	_ api.Guests   = (*guestapi.Client)(nil)
	_ api.Enforcer = (*policy.Enforcer)(nil)
)

type fakeAuth struct{}

func (fakeAuth) Authenticate(_ context.Context, t identity.Tokens) (identity.Caller, error) {
	c, ok := tokens[t.User.Reveal()]
	c.Token = t.User
	if !ok {
		return c, trove.Errorf(trove.KindUnauthorized, "the token is not valid")
	}
	return c, nil
}

func (fakeAuth) AuthURL() string { return authURL }

// fakeSealer keeps the purpose with the text, so that a test sees what was sealed for whom.
type fakeSealer struct{}

func (fakeSealer) Seal(_ context.Context, purpose string, plain trove.Secret) (string, error) {
	return "sealed:" + purpose + ":" + plain.Reveal(), nil
}

func (fakeSealer) Open(_ context.Context, purpose, sealed string) (trove.Secret, error) {
	plain, ok := strings.CutPrefix(sealed, "sealed:"+purpose+":")
	if !ok {
		return "", trove.Errorf(trove.KindInternal, "sealed for another purpose")
	}
	return trove.Secret(plain), nil
}

// fakeCatalog is the cloud of the recorded exchanges: four flavors, one network, one volume type.
type fakeCatalog struct{ flavors []trove.Flavor }

func newCatalog() *fakeCatalog {
	return &fakeCatalog{[]trove.Flavor{
		{ID: "1", Name: "m1.tiny", RAM: 512, VCPUs: 1, Disk: 1},
		{ID: "2", Name: "m1.small", RAM: 2048, VCPUs: 1, Disk: 20},
		{ID: "3", Name: "m1.medium", RAM: 4096, VCPUs: 2, Disk: 40},
		{ID: "4", Name: "m1.large", RAM: 8192, VCPUs: 4, Disk: 80},
	}}
}

func (c *fakeCatalog) Flavors(context.Context, cloud.Rights) ([]trove.Flavor, error) {
	return c.flavors, nil
}

func (c *fakeCatalog) Flavor(_ context.Context, _ cloud.Rights, id string) (trove.Flavor, error) {
	for _, f := range c.flavors {
		if f.ID == id {
			return f, nil
		}
	}
	return trove.Flavor{}, trove.Errorf(trove.KindNotFound, "no such flavor")
}

func (*fakeCatalog) VolumeTypes(context.Context, cloud.Rights) ([]cloud.VolumeType, error) {
	return []cloud.VolumeType{{ID: "lab", Name: "lab", Description: "lab", IsPublic: true}}, nil
}

func (*fakeCatalog) TenantNetworks(_ context.Context, by cloud.Rights) ([]cloud.TenantNetwork, error) {
	if by.Project != project {
		return nil, nil
	}
	return []cloud.TenantNetwork{{ID: networkID, Name: "net", Subnets: []cloud.Subnet{{ID: subnetID, CIDR: "10.0.0.0/24"}}}}, nil
}

func (*fakeCatalog) ImageExists(context.Context, string) error { return nil }

// MachineHost and Migratable are cloud.Placement: there are two hosts.
func (*fakeCatalog) MachineHost(context.Context, string) (string, error) { return "lab", nil }

func (*fakeCatalog) Migratable(_ context.Context, host string) error {
	if host != "" && host != "lab" && host != "h2" {
		return trove.Errorf(trove.KindBadRequest, "There is no host %s.", host)
	}
	return nil
}

// fakeGuests keeps databases and users per instance in memory.
type fakeGuests struct {
	lost error // of the next databases that are made: they are, and the answer does not come

	*fakeLogs
	*fakeFigures
	mu        sync.Mutex
	databases map[string][]string
	users     map[string][]trove.User
	applied   map[string]guestapi.ApplyConfigurationArgs // the last one, by instance
	asked     map[string]int                             // how often each was told its configuration
	refuse    map[string]error                           // what ApplyConfiguration answers, by instance
	meanwhile func()                                     // called by ApplyConfiguration before it answers
	rename    bool                                       // UpdateUser changes names and hosts
	block     chan struct{}                              // not nil: calls wait for it
	down      bool
	found     []guestapi.Finding  // by CheckUpgrade
	tls       guestapi.SetTLSArgs // as it is
	tlsError  error               // of changes of TLS
	tlsUndo   *guestapi.SetTLSArgs
}

func newGuests() *fakeGuests {
	return &fakeGuests{
		fakeLogs: newFakeLogs(), fakeFigures: &fakeFigures{}, databases: map[string][]string{}, users: map[string][]trove.User{}, rename: true,
		applied: map[string]guestapi.ApplyConfigurationArgs{}, asked: map[string]int{}, refuse: map[string]error{},
	}
}

func (g *fakeGuests) enter(ctx context.Context) (func(), error) {
	if g.block != nil {
		select {
		case <-g.block:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	g.mu.Lock()
	if g.down {
		g.mu.Unlock()
		return nil, trove.Errorf(trove.KindUnavailable, "The guest does not answer.")
	}
	return g.mu.Unlock, nil
}

func (g *fakeGuests) Ping(ctx context.Context, _ string) (guestapi.Hello, error) {
	leave, err := g.enter(ctx)
	if err == nil {
		leave()
	}
	return guestapi.Hello{}, err
}

func (g *fakeGuests) Machine(ctx context.Context, _ string) (guestapi.MachineInfo, error) {
	leave, err := g.enter(ctx)
	if err != nil {
		return guestapi.MachineInfo{}, err
	}
	defer leave()
	return guestapi.MachineInfo{
		MemoryKiB: 2 << 20, CPUs: 1, AgentVersion: "1.3.0",
		Agent: guestapi.ProcessInfo{Threads: 9, FDSize: 64, VMSize: 1300, VMPeak: 1400, VMRSS: 20, VMHWM: 30},
	}, nil
}

// CheckUpgrade finds what the test said.
func (g *fakeGuests) CheckUpgrade(ctx context.Context, _, version string) (guestapi.UpgradeCheck, error) {
	leave, err := g.enter(ctx)
	if err != nil {
		return guestapi.UpgradeCheck{}, err
	}
	defer leave()
	return guestapi.UpgradeCheck{Programs: "10.11.14", Data: "10.11.14", Findings: g.found, Bytes: 1 << 20, Free: 1 << 30}, nil
}

func (g *fakeGuests) TLS(ctx context.Context, _ string) (guestapi.TLSState, error) {
	leave, err := g.enter(ctx)
	if err != nil {
		return guestapi.TLSState{}, err
	}
	defer leave()
	mode := g.tls.Mode
	if mode == "" {
		mode = "builtin"
	}
	return guestapi.TLSState{On: !g.tls.Off, Mode: mode, Cert: g.tls.Cert}, nil
}

func (g *fakeGuests) SetTLS(ctx context.Context, _ string, args guestapi.SetTLSArgs) (guestapi.TLSChanged, error) {
	leave, err := g.enter(ctx)
	if err != nil {
		return guestapi.TLSChanged{}, err
	}
	defer leave()
	if g.tlsError != nil {
		return guestapi.TLSChanged{}, g.tlsError
	}
	before := g.tls
	g.tls, g.tlsUndo = args, &before
	return guestapi.TLSChanged{Restart: before.Off != args.Off}, nil
}

func (g *fakeGuests) RollbackTLS(ctx context.Context, _ string) (guestapi.TLSChanged, error) {
	leave, err := g.enter(ctx)
	if err != nil {
		return guestapi.TLSChanged{}, err
	}
	defer leave()
	if g.tlsUndo == nil {
		return guestapi.TLSChanged{}, trove.Errorf(trove.KindBadRequest, "nothing to roll back")
	}
	restart := g.tls.Off != g.tlsUndo.Off
	g.tls, g.tlsUndo = *g.tlsUndo, nil
	return guestapi.TLSChanged{Restart: restart}, nil
}

func (g *fakeGuests) ListDatabases(ctx context.Context, id string) ([]trove.Database, error) {
	leave, err := g.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	var out []trove.Database
	for _, n := range g.databases[id] {
		out = append(out, trove.Database{Name: n})
	}
	return out, nil
}

func (g *fakeGuests) CreateDatabases(ctx context.Context, id string, ds []trove.Database) error {
	leave, err := g.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	for _, d := range ds {
		if slices.Contains(g.databases[id], d.Name) {
			return trove.Errorf(trove.KindConflict, "The database %q exists already.", d.Name)
		}
		g.databases[id] = append(g.databases[id], d.Name)
	}
	if err := g.lost; err != nil {
		g.lost = nil
		return err
	}
	return nil
}

func (g *fakeGuests) DropDatabase(ctx context.Context, id, name string) error {
	leave, err := g.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	n := slices.Index(g.databases[id], name)
	if n < 0 {
		return trove.Errorf(trove.KindNotFound, "no such database")
	}
	g.databases[id] = slices.Delete(g.databases[id], n, n+1)
	return nil
}

func (g *fakeGuests) ListUsers(ctx context.Context, id string) ([]trove.User, error) {
	leave, err := g.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return slices.Clone(g.users[id]), nil
}

func (g *fakeGuests) CreateUsers(ctx context.Context, id string, us []guestapi.UserArgs) error {
	leave, err := g.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	for _, u := range us {
		if _, err := g.find(id, guestapi.UserRef{Name: u.Name, Host: u.Host}); err == nil {
			return trove.Errorf(trove.KindConflict, "The user %s@%s exists already.", u.Name, u.Host)
		}
		g.users[id] = append(g.users[id], trove.User{Name: u.Name, Host: u.Host, Password: trove.Secret(u.Password), Databases: u.Databases})
	}
	return nil
}

func (g *fakeGuests) find(id string, ref guestapi.UserRef) (int, error) {
	n := slices.IndexFunc(g.users[id], func(u trove.User) bool { return u.Name == ref.Name && u.Host == ref.Host })
	if n < 0 {
		return n, trove.Errorf(trove.KindNotFound, "no such user")
	}
	return n, nil
}

func (g *fakeGuests) DropUser(ctx context.Context, id string, ref guestapi.UserRef) error {
	leave, err := g.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	n, err := g.find(id, ref)
	if err == nil {
		g.users[id] = slices.Delete(g.users[id], n, n+1)
	}
	return err
}

func (g *fakeGuests) UpdateUser(ctx context.Context, id string, c guestapi.UpdateUserArgs) error {
	leave, err := g.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	n, err := g.find(id, c.UserRef)
	if err != nil {
		return err
	}
	u := &g.users[id][n]
	if c.NewPassword != nil {
		u.Password = trove.Secret(*c.NewPassword)
	}
	if c.NewName != nil && g.rename {
		u.Name = *c.NewName
	}
	if c.NewHost != nil && g.rename {
		u.Host = *c.NewHost
	}
	return nil
}

func (g *fakeGuests) Grant(ctx context.Context, id string, ref guestapi.UserRef, names []string) error {
	leave, err := g.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	n, err := g.find(id, ref)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !slices.Contains(g.users[id][n].Databases, name) {
			g.users[id][n].Databases = append(g.users[id][n].Databases, name)
		}
	}
	return nil
}

func (g *fakeGuests) Revoke(ctx context.Context, id string, ref guestapi.UserRef, name string) error {
	leave, err := g.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	n, err := g.find(id, ref)
	if err != nil {
		return err
	}
	u := &g.users[id][n]
	u.Databases = slices.DeleteFunc(u.Databases, func(d string) bool { return d == name })
	return nil
}

func (g *fakeGuests) EnableRoot(ctx context.Context, _ string, _ trove.Secret) error {
	leave, err := g.enter(ctx)
	if err == nil {
		leave()
	}
	return err
}

func (g *fakeGuests) DisableRoot(ctx context.Context, _ string) error {
	leave, err := g.enter(ctx)
	if err == nil {
		leave()
	}
	return err
}

// ApplyConfiguration does as a guest does. Whatever performance_schema is set to waits for a restart, which never comes.
func (g *fakeGuests) ApplyConfiguration(ctx context.Context, id string, args guestapi.ApplyConfigurationArgs) (guestapi.ConfigurationApplied, error) {
	var done guestapi.ConfigurationApplied
	leave, err := g.enter(ctx)
	if err != nil {
		return done, err
	}
	defer leave()
	g.asked[id]++
	if meanwhile := g.meanwhile; meanwhile != nil {
		g.meanwhile = nil
		meanwhile()
	}
	if err := g.refuse[id]; err != nil {
		return done, err
	}
	if args.Revision < g.applied[id].Revision {
		return done, trove.Errorf(trove.KindConflict, "The guest has heard of a newer configuration already.")
	}
	g.applied[id] = args
	if _, static := args.Overrides["performance_schema"]; static {
		done.Restart = []string{"performance_schema"}
	}
	return done, nil
}

// world is a server with everything around it.
type world struct {
	handler http.Handler
	store   *sqlstore.Store
	path    string // of its file
	guests  *fakeGuests
	clock   *clock.Manual
	config  api.Config
	woken   *int
}

// emptyStore is the file of a store with the fixture's datastores, made once: the migrations are what takes long.
var emptyStore = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "api")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	path := filepath.Join(dir, "store.db")
	st, err := sqlstore.Open(context.Background(), sqlstore.Config{Path: path, NoSync: true})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(loadDatastores(st), st.Close()); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// newWorld opens a store with the fixture's datastores; change may alter the configuration.
func newWorld(t testing.TB, quotas map[string]int, change func(*api.Config)) *world {
	t.Helper()
	template, err := emptyStore()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "store.db")
	if err := os.WriteFile(path, template, 0o600); err != nil {
		t.Fatal(err)
	}
	st, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: path, NoSync: true, Quotas: quotas})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	rules, err := policy.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{store: st, path: path, guests: newGuests(), clock: clock.NewManual(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)), woken: new(int)}
	w.config = api.Config{
		Store: st, Auth: fakeAuth{}, Policy: rules, Guests: w.guests, Catalog: newCatalog(), Sealer: fakeSealer{}, Clock: w.clock,
		Log: slog.New(slog.DiscardHandler), DefaultDatastore: "mysql", MaxVolumeSize: 100, NoRateLimit: true,
		Wake: func(context.Context) { *w.woken++ }, Objects: w.guests.objects, Grants: w.guests, Engines: fixtureEngines(),
	}
	if change != nil {
		change(&w.config)
	}
	w.handler, err = api.New(w.config)
	if err != nil {
		t.Fatal(err)
	}
	return w
}
