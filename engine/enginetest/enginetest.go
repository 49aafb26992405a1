// Package enginetest is the suite that every engine driver must pass: it starts a real server with the driver's own command and looks at each
// method's effect and at the promises of the port: what may be repeated, which kind an error has, what survives a restart.
package enginetest

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// Setup is what a driver's test gives the suite: a driver and the directories of a guest that nothing else uses. Data and Runtime must be
// readable for the layout's account; Runtime's path must be short enough for a socket below it.
type Setup struct {
	Engine engine.Engine
	Layout engine.Layout
	// Fill puts a copy of an initialised data directory into an empty volume, which is quicker than Initialise; nil: Initialise is used everywhere.
	Fill func(t testing.TB, l engine.Layout)
	// Login connects over TCP as a client would, to the layout's address and the engine's port, and runs a statement in the database, or without
	// one where it is "". nil: the engine has no network, and what needs a login is left out.
	Login func(ctx context.Context, l engine.Layout, user string, password trove.Secret, database string) error
	// Shown connects as a client does and returns the certificate that the server shows, DER; nil: it has no network.
	Shown func(ctx context.Context, l engine.Layout) ([]byte, error)
	// Override is a parameter that Configure accepts, with a value that is not the default, and Value reads what the running server has. Both or neither.
	Override string
	Value    string
	Read     func(ctx context.Context, l engine.Layout, user string, password trove.Secret) (string, error)
	// Static is a parameter whose value StaticValue, which is not the default, comes with a start only; "": the engine has none, or is not Configurable.
	Static      string
	StaticValue string
	// Refused are values, by parameter, that Configure accepts and the server does not.
	Refused map[string]string
	// Set changes a parameter of the running server past the agent, as somebody with the superuser's password would, or whoever else can; nil: nobody can.
	Set func(ctx context.Context, l engine.Layout, password trove.Secret, name, value string) error
	// Changed is another value of Override, as the server shows it, and ChangedShown what Drift says of it, when that is more.
	Changed, ChangedShown string
	// SetStays says that such a change outlives a restart.
	SetStays bool
	// LogsWritten says that a log that is on has a file as soon as the server is up.
	LogsWritten bool
	// BadOverrides are names or values that Configure must refuse.
	BadOverrides map[string]string
	// RightsNeedDatabases says that rights can be given on databases that are there only.
	RightsNeedDatabases bool
	// LiveTLS says that the running server takes up every change of its TLS.
	LiveTLS bool
	// Newer is a version that data is taken over by; nil: none is at hand.
	Newer *Newer
	// Names are names that a careless driver would let into a statement, for databases and for users. The suite has some of its own.
	Names []string
	// LegalName says of a name whether a user can have it; nil: all that the suite tries.
	LegalName func(name string) bool
	// Flat is for an engine without databases.
	Flat Flat
}

// awkward are names that are legal and that break statements made by pasting strings together.
var awkward = []string{
	"o'brien", `do"uble`, "back`tick", `back\slash`, `end\`, "per%cent", "under_score", "at@sign", "x; DROP DATABASE keep; --", "x` ; DROP DATABASE `keep",
	"sp ace", "-- dash", "/*c*/", "ünï", "#hash", "..", "a/../b",
}

// Run runs the suite; newSetup is called for each part.
func Run(t *testing.T, newSetup func(t *testing.T) Setup) {
	t.Helper()
	for name, part := range map[string]func(t *testing.T, s Setup){
		"Info": info, "Initialise": initialise, "FirstStart": firstStart, "Databases": databases, "Users": users, "UpdateUser": updateUser,
		"Grants": grants, "Root": root, "Names": names, "Stopped": stopped, "Restart": restart, "Configure": configure, "Apply": apply, "Logs": logs,
		"TLS": changeTLS, "Certified": certified, "Drift": drift, "Metrics": measure, "Upgrade": upgrade,
	} {
		t.Run(name, func(t *testing.T) {
			s := newSetup(t)
			if flat, ok := flatParts[name]; ok && !s.Engine.Info().Capabilities.Databases {
				part = flat
			}
			part(t, s)
		})
	}
}

const (
	alicePassword trove.Secret = `al'ice"\pass`
	bobPassword   trove.Secret = "bob-pass-2"
	rootPassword  trove.Secret = "root-pass-3"
)

// started initialises, prepares and starts an engine with one database and one user.
func started(t *testing.T, s Setup) *Server {
	t.Helper()
	return startedWith(t, s, engine.Preparation{
		Databases: []trove.Database{{Name: "keep"}},
		Users:     []trove.User{{Name: "alice", Password: alicePassword, Databases: []string{"keep"}}},
	})
}

func startedWith(t *testing.T, s Setup, p engine.Preparation) *Server {
	t.Helper()
	ctx := t.Context()
	fill(t, s)
	flatten(s, &p)
	p.InstanceID, p.ServerID = "0c7f8a52-6a25-4a1d-9a1f-0d4c1f3c8e11", 4711
	p.Settings.RAM, p.Settings.VCPUs = 512, 1
	p.AdminPassword = "admin-pass-0"
	must(t, s.Engine.Prepare(ctx, s.Layout, p))
	return Start(t, s)
}

// fill makes the data directory if there is none.
func fill(t *testing.T, s Setup) {
	t.Helper()
	done, err := s.Engine.Initialised(s.Layout)
	must(t, err)
	if s.Fill != nil && !done {
		s.Fill(t, s.Layout)
	}
	must(t, s.Engine.Initialise(t.Context(), s.Layout))
}

func info(t *testing.T, s Setup) {
	i := s.Engine.Info()
	c := i.Capabilities
	if i.Manager == "" || i.User == "" || i.StopTimeout <= 0 || c.Port <= 0 || len(c.Client) == 0 {
		t.Errorf("Info() = %+v: manager, user, stop timeout, port and client must be set", i)
	}
	if c.Users && c.MaxUserName <= 0 || c.Databases && c.MaxDatabaseName <= 0 || c.Root && i.RootName == "" {
		t.Errorf("Info() = %+v: an ability without its limit or name", i)
	}
}

func initialise(t *testing.T, s Setup) {
	ctx := t.Context()
	if done, err := s.Engine.Initialised(s.Layout); err != nil || done {
		t.Fatalf("Initialised() of an empty volume = %v, %v", done, err)
	}
	for range 2 {
		must(t, s.Engine.Initialise(ctx, s.Layout))
		if done, err := s.Engine.Initialised(s.Layout); err != nil || !done {
			t.Fatalf("Initialised() after Initialise = %v, %v", done, err)
		}
	}
	wantKind(t, "Ping before any start", s.Engine.Ping(ctx, s.Layout), trove.KindUnavailable)
}

func firstStart(t *testing.T, s Setup) {
	ctx, e, l := t.Context(), s.Engine, s.Layout
	p, bob := engine.Preparation{Users: []trove.User{{Name: "early", Password: "early-pass"}}}, trove.User{Name: "bob", Host: "%", Password: bobPassword}
	if hosts(s) {
		bob.Host = "10.0.0.%"
	}
	fill(t, s)
	p.Settings.RAM = 512
	must(t, e.Prepare(ctx, l, p)) // replaced by the second one
	srv := startedWith(t, s, engine.Preparation{
		Databases:    []trove.Database{{Name: "keep"}, {Name: "other"}},
		Users:        []trove.User{{Name: "alice", Password: alicePassword, Databases: []string{"keep"}}, bob},
		RootPassword: rootPassword,
	})
	wantDatabases(t, s, "keep", "other")
	wantUsers(t, s, trove.User{Name: "alice", Host: "%", Databases: []string{"keep"}}, trove.User{Name: "bob", Host: bob.Host})
	if enabled, err := e.RootEnabled(ctx, l); err != nil || !enabled {
		t.Errorf("RootEnabled() = %v, %v, want true from the first start", enabled, err)
	}
	wantLogin(t, s, "alice", alicePassword, "keep", true)
	wantLogin(t, s, "alice", "wrong", "", false)
	wantLogin(t, s, "early", "early-pass", "", false)
	wantLogin(t, s, e.Info().RootName, rootPassword, "other", true)
	must(t, e.Ready(ctx, l)) // may be repeated
	srv.Stop()
}

func wantDatabases(t *testing.T, s Setup, want ...string) {
	t.Helper()
	all, err := s.Engine.Databases(t.Context(), s.Layout)
	must(t, err)
	got := []string{}
	for _, d := range all {
		got = append(got, d.Name)
	}
	if want == nil {
		want = []string{}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("databases (-want +got):\n%s", diff)
	}
}

func wantUsers(t *testing.T, s Setup, want ...trove.User) {
	t.Helper()
	got, err := s.Engine.Users(t.Context(), s.Layout)
	must(t, err)
	for i := range got { // an empty list may be nil
		if len(got[i].Databases) == 0 {
			got[i].Databases = nil
		}
	}
	if !s.Engine.Info().Capabilities.Databases {
		for i := range want {
			want[i].Databases = nil
		}
	}
	if len(got) == 0 && len(want) == 0 {
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("users (-want +got):\n%s", diff)
	}
}

func wantLogin(t *testing.T, s Setup, user string, password trove.Secret, database string, want bool) {
	t.Helper()
	if s.Login == nil {
		return
	}
	if err := s.Login(t.Context(), s.Layout, user, password, database); (err == nil) != want {
		t.Errorf("login of %s into %q: %v, want success %v", user, database, err, want)
	}
}

func wantKind(t *testing.T, what string, err error, kind trove.Kind) {
	t.Helper()
	_, isKind := errors.AsType[*trove.Error](err)
	if !isKind || trove.KindOf(err) != kind {
		t.Errorf("%s: %v, want an error of kind %q", what, err, kind)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
