package enginetest

import (
	"context"
	"strconv"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// Flat is what the suite needs of an engine whose data lie in no databases (Capabilities.Databases is false): a key and its value in place of a table.
type Flat struct {
	Put func(ctx context.Context, l engine.Layout, user string, password trove.Secret, key, value string) error
	Get func(ctx context.Context, l engine.Layout, user string, password trove.Secret, key string) (string, error)
	// Forbidden are commands that no user may run.
	Forbidden [][]string
	// Denied runs a command as a user and returns nil if the server denied it for want of a right.
	Denied func(ctx context.Context, l engine.Layout, user string, password trove.Secret, command []string) error
}

// flatParts stand in place of the parts of the same name for such an engine.
var flatParts = map[string]func(t *testing.T, s Setup){
	"FirstStart": flatFirstStart, "Databases": flatDatabases, "Users": flatUsers, "UpdateUser": flatUpdateUser, "Grants": flatForbidden, "Names": flatNames,
	"Stopped": flatStopped, "Restart": flatRestart,
}

// flatten leaves out what such an engine has not.
func flatten(s Setup, p *engine.Preparation) {
	if s.Engine.Info().Capabilities.Databases {
		return
	}
	p.Databases = nil
	for i := range p.Users {
		p.Users[i].Databases = nil
	}
}

func flatUser(name string) trove.User { return trove.User{Name: name, Host: "%"} }

func flatFirstStart(t *testing.T, s Setup) {
	ctx, e, l := t.Context(), s.Engine, s.Layout
	fill(t, s)
	early := []trove.User{{Name: "early", Password: "early-pass"}}
	must(t, e.Prepare(ctx, l, engine.Preparation{Settings: engine.Settings{RAM: 512}, Users: early})) // replaced by the second one
	twice := []trove.User{{Name: "alice", Password: "a"}, {Name: "alice", Password: "b"}}
	for what, p := range map[string]engine.Preparation{
		"a database": {Databases: []trove.Database{{Name: "keep"}}}, "a right": {Users: []trove.User{{Name: "a", Password: "a", Databases: []string{"keep"}}}},
		"a host": {Users: []trove.User{{Name: "a", Password: "a", Host: "10.0.0.%"}}}, "a user twice": {Users: twice}, "no password": {Users: []trove.User{{Name: "a"}}},
	} {
		wantKind(t, "Prepare with "+what, e.Prepare(ctx, l, p), trove.KindBadRequest)
	}
	srv := startedWith(t, s, engine.Preparation{
		Users: []trove.User{{Name: "alice", Password: alicePassword}, {Name: "bob", Host: "%", Password: bobPassword}}, RootPassword: rootPassword,
	})
	wantUsers(t, s, flatUser("alice"), flatUser("bob"))
	if enabled, err := e.RootEnabled(ctx, l); err != nil || !enabled {
		t.Errorf("RootEnabled() = %v, %v, want true from the first start", enabled, err)
	}
	wantLogin(t, s, "alice", alicePassword, "", true)
	wantLogin(t, s, "alice", "wrong", "", false)
	wantLogin(t, s, "early", "early-pass", "", false)
	wantLogin(t, s, e.Info().RootName, rootPassword, "", true)
	must(t, e.Ready(ctx, l)) // may be repeated
	srv.Stop()
}

func flatDatabases(t *testing.T, s Setup) {
	started(t, s)
	ctx, e, l := t.Context(), s.Engine, s.Layout
	_, err := e.Databases(ctx, l)
	wantKind(t, "Databases", err, trove.KindBadRequest)
	wantKind(t, "CreateDatabase", e.CreateDatabase(ctx, l, trove.Database{Name: "a"}), trove.KindBadRequest)
	wantKind(t, "DropDatabase", e.DropDatabase(ctx, l, "a"), trove.KindBadRequest)
	wantKind(t, "Grant", e.Grant(ctx, l, "alice", "", []string{"a"}), trove.KindBadRequest)
	wantKind(t, "Revoke", e.Revoke(ctx, l, "alice", "", "a"), trove.KindBadRequest)
	wantUsers(t, s, flatUser("alice"))
}

func flatUsers(t *testing.T, s Setup) {
	started(t, s)
	ctx, e, l := t.Context(), s.Engine, s.Layout
	must(t, e.CreateUser(ctx, l, trove.User{Name: "bob", Password: bobPassword}))
	for what, u := range map[string]trove.User{
		"without a password": {Name: "carol"}, "without a name": {Password: "x"}, "with a right": {Name: "carol", Password: "x", Databases: []string{"keep"}},
		"with a host": {Name: "carol", Password: "x", Host: "192.0.2.1"},
	} {
		wantKind(t, "create a user "+what, e.CreateUser(ctx, l, u), trove.KindBadRequest)
	}
	wantKind(t, "create a user twice", e.CreateUser(ctx, l, trove.User{Name: "bob", Host: "%", Password: "x"}), trove.KindConflict)
	for _, name := range e.Info().Capabilities.ReservedUsers {
		wantKind(t, "create "+name, e.CreateUser(ctx, l, trove.User{Name: name, Password: "x"}), trove.KindBadRequest)
		wantKind(t, "drop "+name, e.DropUser(ctx, l, name, "%"), trove.KindBadRequest)
	}
	wantUsers(t, s, flatUser("alice"), flatUser("bob"))
	wantLogin(t, s, "bob", bobPassword, "", true)
	must(t, e.DropUser(ctx, l, "bob", ""))
	wantLogin(t, s, "bob", bobPassword, "", false)
	wantKind(t, "drop a user twice", e.DropUser(ctx, l, "bob", ""), trove.KindNotFound)
	wantUsers(t, s, flatUser("alice"))
}

func flatUpdateUser(t *testing.T, s Setup) {
	started(t, s)
	ctx, e, l := t.Context(), s.Engine, s.Layout
	must(t, e.CreateUser(ctx, l, trove.User{Name: "bob", Password: bobPassword}))
	changed, again, taken := trove.Secret("changed-1"), trove.Secret("changed-2"), "alice"
	must(t, e.UpdateUser(ctx, l, "bob", "", engine.UserChange{Password: &changed}))
	wantLogin(t, s, "bob", bobPassword, "", false)
	wantLogin(t, s, "bob", changed, "", true)
	wantKind(t, "rename to a name that is taken", e.UpdateUser(ctx, l, "bob", "", engine.UserChange{Name: &taken, Password: &again}), trove.KindConflict)
	wantLogin(t, s, "bob", again, "", false)
	wantLogin(t, s, "bob", changed, "", true)
	wantLogin(t, s, "alice", alicePassword, "", true)

	name, host, empty := "robert", "192.0.2.%", trove.Secret("")
	must(t, e.UpdateUser(ctx, l, "bob", "%", engine.UserChange{Name: &name})) // the password goes with it
	wantLogin(t, s, "robert", changed, "", true)
	wantLogin(t, s, "bob", changed, "", false)
	wantKind(t, "update a user that is gone", e.UpdateUser(ctx, l, "bob", "%", engine.UserChange{Name: &name}), trove.KindNotFound)
	wantKind(t, "a host", e.UpdateUser(ctx, l, "robert", "", engine.UserChange{Host: &host}), trove.KindBadRequest)
	wantKind(t, "an empty password", e.UpdateUser(ctx, l, "robert", "", engine.UserChange{Password: &empty}), trove.KindBadRequest)
	for _, reserved := range e.Info().Capabilities.ReservedUsers {
		wantKind(t, "rename to a reserved name", e.UpdateUser(ctx, l, "robert", "", engine.UserChange{Name: &reserved}), trove.KindBadRequest)
	}
	wantUsers(t, s, flatUser("alice"), flatUser("robert"))
}

// flatForbidden: neither a user nor root may run what harms the guest.
func flatForbidden(t *testing.T, s Setup) {
	started(t, s)
	ctx, l := t.Context(), s.Layout
	must(t, s.Engine.EnableRoot(ctx, l, rootPassword))
	for _, command := range s.Flat.Forbidden {
		for user, password := range map[string]trove.Secret{"alice": alicePassword, s.Engine.Info().RootName: rootPassword} {
			if err := s.Flat.Denied(ctx, l, user, password, command); err != nil {
				t.Errorf("%s runs %v: %v", user, command, err)
			}
		}
	}
	must(t, s.Engine.Ping(ctx, l))
}

func flatNames(t *testing.T, s Setup) {
	legal := s.LegalName
	if legal == nil {
		legal = func(string) bool { return true }
	}
	var p engine.Preparation
	var all []string
	for i, n := range append(append([]string(nil), awkward...), s.Names...) {
		switch {
		case !legal(n):
			bad := engine.Preparation{Users: []trove.User{{Name: n, Password: alicePassword}}}
			wantKind(t, "prepare user "+strconv.Quote(n), s.Engine.Prepare(t.Context(), s.Layout, bad), trove.KindBadRequest)
			wantKind(t, "user "+strconv.Quote(n), s.Engine.CreateUser(t.Context(), s.Layout, bad.Users[0]), trove.KindBadRequest)
			continue
		case i%2 == 0: // half of them by Prepare, half by the calls
			p.Users = append(p.Users, trove.User{Name: n, Password: alicePassword})
		}
		all = append(all, n)
	}
	startedWith(t, s, p)
	ctx, e, l := t.Context(), s.Engine, s.Layout
	for _, n := range all {
		if err := e.CreateUser(ctx, l, trove.User{Name: n, Password: alicePassword}); trove.KindOf(err) != trove.KindConflict {
			must(t, err)
		}
		wantLogin(t, s, n, alicePassword, "", true)
		wantLogin(t, s, n, "wrong", "", false)
	}
	if got, err := e.Users(ctx, l); err != nil || len(got) != len(all) {
		t.Errorf("Users() = %v, %v, want %d", got, err, len(all))
	}
	for i, n := range all {
		name := "renamed" + strconv.Itoa(i)
		must(t, e.UpdateUser(ctx, l, n, "", engine.UserChange{Name: &name}))
		wantLogin(t, s, name, alicePassword, "", true)
		must(t, e.DropUser(ctx, l, name, ""))
	}
	wantUsers(t, s)
	for _, bad := range []string{"new\nline", "nul\x00", "", strings.Repeat("x", e.Info().Capabilities.MaxUserName+1)} {
		wantKind(t, "user "+strconv.Quote(bad), e.CreateUser(ctx, l, trove.User{Name: bad, Password: "x"}), trove.KindBadRequest)
		prep := engine.Preparation{Users: []trove.User{{Name: bad, Password: "x"}}}
		wantKind(t, "prepare "+strconv.Quote(bad), e.Prepare(ctx, l, prep), trove.KindBadRequest)
	}
}

func flatStopped(t *testing.T, s Setup) {
	srv := started(t, s)
	ctx, e, l := t.Context(), s.Engine, s.Layout
	srv.Stop()
	wantKind(t, "Ping", e.Ping(ctx, l), trove.KindUnavailable)
	wantKind(t, "Ready", e.Ready(ctx, l), trove.KindUnavailable)
	_, err := e.Users(ctx, l)
	wantKind(t, "Users", err, trove.KindUnavailable)
	_, err = e.RootEnabled(ctx, l)
	wantKind(t, "RootEnabled", err, trove.KindUnavailable)
	wantKind(t, "CreateUser", e.CreateUser(ctx, l, trove.User{Name: "x1", Password: "x"}), trove.KindUnavailable)
	wantKind(t, "DropUser", e.DropUser(ctx, l, "alice", ""), trove.KindUnavailable)
	wantKind(t, "EnableRoot", e.EnableRoot(ctx, l, "x"), trove.KindUnavailable)
}

func flatRestart(t *testing.T, s Setup) {
	srv := started(t, s)
	ctx, e, l := t.Context(), s.Engine, s.Layout
	must(t, s.Flat.Put(ctx, l, "alice", alicePassword, "greeting", "hello"))
	must(t, e.CreateUser(ctx, l, trove.User{Name: "bob", Password: bobPassword}))
	must(t, e.EnableRoot(ctx, l, rootPassword))
	changed := trove.Secret("changed-1")
	must(t, e.UpdateUser(ctx, l, "alice", "", engine.UserChange{Password: &changed}))
	must(t, e.DropUser(ctx, l, "bob", "")) // and it stays dropped
	srv.Stop()
	must(t, e.Initialise(ctx, l)) // does nothing to data that is there
	Start(t, s)
	wantUsers(t, s, flatUser("alice"))
	wantLogin(t, s, "alice", alicePassword, "", false)
	if got, err := s.Flat.Get(ctx, l, "alice", changed, "greeting"); err != nil || got != "hello" {
		t.Errorf("the value after a restart = %q, %v", got, err)
	}
	if enabled, err := e.RootEnabled(ctx, l); err != nil || !enabled {
		t.Errorf("RootEnabled() after a restart = %v, %v, want true", enabled, err)
	}
}
