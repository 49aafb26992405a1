package enginetest

import (
	"encoding/json"
	"slices"
	"strconv"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

func databases(t *testing.T, s Setup) {
	started(t, s)
	ctx, e, l := t.Context(), s.Engine, s.Layout
	must(t, e.CreateDatabase(ctx, l, trove.Database{Name: "second"}))
	wantKind(t, "create a database twice", e.CreateDatabase(ctx, l, trove.Database{Name: "second"}), trove.KindConflict)
	wantKind(t, "create a database without a name", e.CreateDatabase(ctx, l, trove.Database{}), trove.KindBadRequest)
	wantKind(t, "a character set that closes the statement", e.CreateDatabase(ctx, l, trove.Database{Name: "cs", CharacterSet: "x; DROP DATABASE keep"}),
		trove.KindBadRequest)
	for _, name := range e.Info().Capabilities.ReservedDatabases {
		wantKind(t, "create "+name, e.CreateDatabase(ctx, l, trove.Database{Name: name}), trove.KindBadRequest)
		wantKind(t, "drop "+name, e.DropDatabase(ctx, l, name), trove.KindBadRequest)
	}
	wantDatabases(t, s, "keep", "second")
	must(t, e.DropDatabase(ctx, l, "second"))
	wantKind(t, "drop a database twice", e.DropDatabase(ctx, l, "second"), trove.KindNotFound)
	wantDatabases(t, s, "keep")
}

func users(t *testing.T, s Setup) {
	started(t, s)
	ctx, e, l := t.Context(), s.Engine, s.Layout
	later(t, s, "later")
	must(t, e.CreateUser(ctx, l, trove.User{Name: "bob", Password: bobPassword, Databases: []string{"keep", "later"}}))
	if hosts(s) {
		must(t, e.CreateUser(ctx, l, trove.User{Name: "bob", Host: "192.0.2.1", Password: "elsewhere"}))
	}
	wantKind(t, "create a user twice", e.CreateUser(ctx, l, trove.User{Name: "bob", Host: "%", Password: "x"}), trove.KindConflict)
	wantKind(t, "create a user without a password", e.CreateUser(ctx, l, trove.User{Name: "carol"}), trove.KindBadRequest)
	wantKind(t, "create a user without a name", e.CreateUser(ctx, l, trove.User{Password: "x"}), trove.KindBadRequest)
	for _, name := range e.Info().Capabilities.ReservedUsers {
		wantKind(t, "create "+name, e.CreateUser(ctx, l, trove.User{Name: name, Password: "x"}), trove.KindBadRequest)
		wantKind(t, "drop "+name, e.DropUser(ctx, l, name, "%"), trove.KindBadRequest)
	}
	alice, elsewhere := trove.User{Name: "alice", Host: "%", Databases: []string{"keep"}}, trove.User{Name: "bob", Host: "192.0.2.1"}
	wantUsers(t, s, bound(s, alice, trove.User{Name: "bob", Host: "%", Databases: []string{"keep", "later"}}, elsewhere)...)
	wantLogin(t, s, "bob", bobPassword, "keep", true)
	must(t, e.DropUser(ctx, l, "bob", ""))
	wantLogin(t, s, "bob", bobPassword, "", false)
	wantKind(t, "drop a user twice", e.DropUser(ctx, l, "bob", ""), trove.KindNotFound)
	wantUsers(t, s, bound(s, alice, elsewhere)...)
}

func updateUser(t *testing.T, s Setup) {
	started(t, s)
	ctx, e, l := t.Context(), s.Engine, s.Layout
	must(t, e.CreateUser(ctx, l, trove.User{Name: "bob", Password: bobPassword, Databases: []string{"keep"}}))
	changed := trove.Secret("changed-1")
	must(t, e.UpdateUser(ctx, l, "bob", "", engine.UserChange{Password: &changed}))
	wantLogin(t, s, "bob", bobPassword, "", false)
	wantLogin(t, s, "bob", changed, "keep", true)

	again, taken := trove.Secret("changed-2"), "alice"
	wantKind(t, "rename to a name that is taken", e.UpdateUser(ctx, l, "bob", "", engine.UserChange{Name: &taken, Password: &again}), trove.KindConflict)
	wantLogin(t, s, "bob", again, "", false)
	wantLogin(t, s, "bob", changed, "keep", true)
	wantLogin(t, s, "alice", alicePassword, "keep", true)

	name := "robert"
	must(t, e.UpdateUser(ctx, l, "bob", "%", engine.UserChange{Name: &name, Password: &again}))
	wantLogin(t, s, "robert", again, "keep", true)
	wantKind(t, "update a user that is gone", e.UpdateUser(ctx, l, "bob", "%", engine.UserChange{Name: &name}), trove.KindNotFound)

	host, empty := "192.0.2.%", trove.Secret("")
	err := e.UpdateUser(ctx, l, "robert", "", engine.UserChange{Host: &host})
	if hosts(s) {
		must(t, err)
		wantLogin(t, s, "robert", again, "", false)
	} else {
		wantKind(t, "bind a user to a host", err, trove.KindBadRequest)
		host = "%"
	}
	wantKind(t, "an empty password", e.UpdateUser(ctx, l, "robert", host, engine.UserChange{Password: &empty}), trove.KindBadRequest)
	wantUsers(t, s, trove.User{Name: "alice", Host: "%", Databases: []string{"keep"}}, trove.User{Name: "robert", Host: host, Databases: []string{"keep"}})
	if reserved := e.Info().Capabilities.ReservedUsers; len(reserved) > 0 {
		wantKind(t, "rename to a reserved name", e.UpdateUser(ctx, l, "robert", host, engine.UserChange{Name: &reserved[0]}), trove.KindBadRequest)
	}
}

func grants(t *testing.T, s Setup) {
	started(t, s)
	ctx, e, l := t.Context(), s.Engine, s.Layout
	must(t, e.CreateDatabase(ctx, l, trove.Database{Name: "a_b"}))
	must(t, e.CreateDatabase(ctx, l, trove.Database{Name: "axb"}))
	wantLogin(t, s, "alice", alicePassword, "a_b", false)
	for range 2 { // a right that is there stays
		must(t, e.Grant(ctx, l, "alice", "", []string{"a_b"}))
	}
	wantLogin(t, s, "alice", alicePassword, "a_b", true)
	wantLogin(t, s, "alice", alicePassword, "axb", false) // _ in a name is no wildcard
	wantUsers(t, s, trove.User{Name: "alice", Host: "%", Databases: []string{"a_b", "keep"}})
	must(t, e.Revoke(ctx, l, "alice", "%", "a_b"))
	wantLogin(t, s, "alice", alicePassword, "a_b", false)
	wantLogin(t, s, "alice", alicePassword, "keep", true)
	wantKind(t, "revoke twice", e.Revoke(ctx, l, "alice", "", "a_b"), trove.KindNotFound)
	wantKind(t, "revoke from a user that is gone", e.Revoke(ctx, l, "nobody-there", "", "keep"), trove.KindNotFound)
	wantKind(t, "grant to a user that is gone", e.Grant(ctx, l, "nobody-there", "", []string{"keep"}), trove.KindNotFound)
	wantUsers(t, s, trove.User{Name: "alice", Host: "%", Databases: []string{"keep"}})
}

func root(t *testing.T, s Setup) {
	if !s.Engine.Info().Capabilities.Root {
		return
	}
	started(t, s)
	ctx, e, l := t.Context(), s.Engine, s.Layout
	name := e.Info().RootName
	wantRoot := func(want bool) {
		t.Helper()
		if got, err := e.RootEnabled(ctx, l); err != nil || got != want {
			t.Errorf("RootEnabled() = %v, %v, want %v", got, err, want)
		}
	}
	wantRoot(false)
	wantLogin(t, s, name, "", "", false)
	must(t, e.EnableRoot(ctx, l, "first-1"))
	must(t, e.EnableRoot(ctx, l, rootPassword))
	wantRoot(true)
	wantLogin(t, s, name, "first-1", "", false)
	wantLogin(t, s, name, rootPassword, "keep", true)
	wantUsers(t, s, trove.User{Name: "alice", Host: "%", Databases: []string{"keep"}}) // root is not listed
	for range 2 {
		must(t, e.DisableRoot(ctx, l))
	}
	wantRoot(false)
	wantLogin(t, s, name, rootPassword, "", false)
	must(t, e.Ping(ctx, l)) // the agent's own account is another
}

func names(t *testing.T, s Setup) {
	all := slices.Concat(awkward, s.Names)
	p := engine.Preparation{Databases: []trove.Database{{Name: "keep"}}}
	for i, n := range all { // half of them by Prepare, half by the calls
		if i%2 == 0 {
			p.Databases = append(p.Databases, trove.Database{Name: n})
			p.Users = append(p.Users, trove.User{Name: n, Password: alicePassword, Databases: []string{n}})
		}
	}
	startedWith(t, s, p)
	ctx, e, l := t.Context(), s.Engine, s.Layout
	want := []string{"keep"}
	for i, n := range all {
		if i%2 == 1 {
			must(t, e.CreateDatabase(ctx, l, trove.Database{Name: n}))
			must(t, e.CreateUser(ctx, l, trove.User{Name: n, Password: alicePassword}))
			must(t, e.Grant(ctx, l, n, "", []string{n}))
		}
		want = append(want, n)
		wantLogin(t, s, n, alicePassword, n, true)
		wantLogin(t, s, n, alicePassword, "keep", false)
	}
	slices.Sort(want)
	wantDatabases(t, s, want...)
	for i, n := range all {
		name := "renamed" + strconv.Itoa(i)
		must(t, e.UpdateUser(ctx, l, n, "", engine.UserChange{Name: &name}))
		wantLogin(t, s, name, alicePassword, n, true)
		must(t, e.Revoke(ctx, l, name, "", n))
		must(t, e.DropUser(ctx, l, name, ""))
		must(t, e.DropDatabase(ctx, l, n))
	}
	wantDatabases(t, s, "keep")
	wantUsers(t, s)
	for _, bad := range []string{"new\nline", "nul\x00", ""} {
		wantKind(t, "database "+strconv.Quote(bad), e.CreateDatabase(ctx, l, trove.Database{Name: bad}), trove.KindBadRequest)
		wantKind(t, "user "+strconv.Quote(bad), e.CreateUser(ctx, l, trove.User{Name: bad, Password: "x"}), trove.KindBadRequest)
		wantKind(t, "prepare "+strconv.Quote(bad), e.Prepare(ctx, l, engine.Preparation{Databases: []trove.Database{{Name: bad}}}), trove.KindBadRequest)
	}
}

func stopped(t *testing.T, s Setup) {
	srv := started(t, s)
	ctx, e, l := t.Context(), s.Engine, s.Layout
	srv.Stop()
	wantKind(t, "Ping", e.Ping(ctx, l), trove.KindUnavailable)
	wantKind(t, "Ready", e.Ready(ctx, l), trove.KindUnavailable)
	_, err := e.Databases(ctx, l)
	wantKind(t, "Databases", err, trove.KindUnavailable)
	_, err = e.Users(ctx, l)
	wantKind(t, "Users", err, trove.KindUnavailable)
	_, err = e.RootEnabled(ctx, l)
	wantKind(t, "RootEnabled", err, trove.KindUnavailable)
	wantKind(t, "CreateDatabase", e.CreateDatabase(ctx, l, trove.Database{Name: "x1"}), trove.KindUnavailable)
	wantKind(t, "CreateUser", e.CreateUser(ctx, l, trove.User{Name: "x1", Password: "x"}), trove.KindUnavailable)
	wantKind(t, "EnableRoot", e.EnableRoot(ctx, l, "x"), trove.KindUnavailable)
}

func restart(t *testing.T, s Setup) {
	srv := started(t, s)
	ctx, e, l := t.Context(), s.Engine, s.Layout
	must(t, e.CreateDatabase(ctx, l, trove.Database{Name: "second"}))
	must(t, e.EnableRoot(ctx, l, rootPassword))
	must(t, e.DropDatabase(ctx, l, "keep")) // and it stays dropped: the first start's statements do not run again
	changed := trove.Secret("changed-1")
	must(t, e.UpdateUser(ctx, l, "alice", "", engine.UserChange{Password: &changed}))
	srv.Stop()
	must(t, e.Initialise(ctx, l)) // does nothing to data that is there
	Start(t, s)
	wantDatabases(t, s, "second")
	wantLogin(t, s, "alice", changed, "", true)
	wantLogin(t, s, "alice", alicePassword, "", false)
	if enabled, err := e.RootEnabled(ctx, l); err != nil || !enabled {
		t.Errorf("RootEnabled() after a restart = %v, %v, want true", enabled, err)
	}
}

func configure(t *testing.T, s Setup) {
	srv := started(t, s)
	ctx, e, l := t.Context(), s.Engine, s.Layout
	settings := engine.Settings{RAM: 512, VCPUs: 1}
	for name, value := range s.BadOverrides {
		settings.Overrides = map[string]json.RawMessage{name: json.RawMessage(value)}
		wantKind(t, "Configure "+name+"="+value, e.Configure(ctx, l, settings), trove.KindBadRequest)
	}
	if s.Override == "" {
		return
	}
	read := func() string {
		t.Helper()
		got, err := s.Read(ctx, l, "alice", alicePassword)
		must(t, err)
		return got
	}
	before := read()
	settings.Overrides = map[string]json.RawMessage{s.Override: json.RawMessage(s.Value)}
	must(t, e.Configure(ctx, l, settings))
	if got := read(); got != before {
		t.Errorf("%s changed from %s to %s without a restart", s.Override, before, got)
	}
	srv.Stop()
	srv = Start(t, s)
	if got := read(); got != s.Value {
		t.Errorf("%s = %s after the restart, want %s", s.Override, got, s.Value)
	}
	must(t, e.Configure(ctx, l, engine.Settings{RAM: 512, VCPUs: 1}))
	srv.Stop()
	Start(t, s)
	if got := read(); got != before {
		t.Errorf("%s = %s without the override, want %s", s.Override, got, before)
	}
}
