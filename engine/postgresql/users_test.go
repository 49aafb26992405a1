package postgresql_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/enginetest"
	"github.com/trove-dbaas/trove/engine/postgresql"
)

// TestUsersOfADatabaseShareWhatTheyMake: all rights on a database are rights on what the others made there, too.
func TestUsersOfADatabaseShareWhatTheyMake(t *testing.T) {
	s := prepared(t, shop())
	enginetest.Start(t, s)
	alice, bob := client(t, s.Layout, "alice", "pw-a", "shop"), client(t, s.Layout, "bob", "pw-b", "shop")
	wantAnswer(t, alice, "CREATE TABLE t (a int); INSERT INTO t VALUES (1); CREATE SCHEMA more; CREATE TABLE more.t (a int)", "")
	wantAnswer(t, bob, "INSERT INTO t VALUES (2); ALTER TABLE t ADD b int; CREATE INDEX ON t (b); SELECT count(*) FROM t", "2")
	wantAnswer(t, bob, "DROP TABLE more.t; CREATE VIEW v AS SELECT a FROM t", "")
	wantAnswer(t, alice, "SELECT count(*) FROM v", "2")
	wantRefused(t, client(t, s.Layout, "alice", "pw-a", ""), "CREATE TABLE t (a int)", "CREATE TEMP TABLE t (a int)")
	wantRefused(t, alice, "COPY t TO '/tmp/x'", "COPY t TO PROGRAM 'id'", "SELECT pg_read_file('/etc/passwd')", "CREATE ROLE x", "SET ROLE trove_admin", "ALTER SYSTEM SET work_mem = 1")
}

// TestDroppedUserLeavesItsObjects also takes what the user made as itself, in every database, and a database of its own.
func TestDroppedUserLeavesItsObjects(t *testing.T) {
	p := shop()
	p.RootPassword = "pw-root"
	s := prepared(t, p)
	enginetest.Start(t, s)
	ctx, e, l := t.Context(), s.Engine, s.Layout
	root := client(t, l, "postgres", "pw-root", "")
	wantAnswer(t, root, "CREATE DATABASE mine OWNER bob", "")
	wantAnswer(t, client(t, l, "bob", "pw-b", "mine"), "CREATE TABLE kept (a int); INSERT INTO kept VALUES (1)", "")
	bob := client(t, l, "bob", "pw-b", "shop")
	wantAnswer(t, bob, "RESET ROLE; CREATE TABLE own (a int); SET ROLE NONE; CREATE TABLE own2 (a int)", "")
	wantAnswer(t, client(t, l, "bob", "pw-b", "other"), "SET ROLE NONE; CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 7'", "")
	must(t, e.DropUser(ctx, l, "bob", ""))
	if _, err := ask(t, bob, "SELECT 1"); err == nil {
		t.Error("the user's session goes on")
	}
	wantAnswer(t, client(t, l, "alice", "pw-a", "shop"), "SELECT string_agg(tableowner, ',') FROM pg_tables WHERE tablename LIKE 'own%'", "owner_of_shop,owner_of_shop")
	must(t, e.Grant(ctx, l, "alice", "", []string{"other", "mine"}))
	wantAnswer(t, client(t, l, "alice", "pw-a", "other"), "SELECT f() || pg_get_userbyid(proowner) FROM pg_proc WHERE proname = 'f'", "7owner_of_other")
	wantAnswer(t, client(t, l, "alice", "pw-a", "mine"), "SELECT a FROM kept", "1")
}

func TestRevokeEndsTheSessionsThatWouldKeepTheRight(t *testing.T) {
	s := prepared(t, shop())
	enginetest.Start(t, s)
	bob, elsewhere := client(t, s.Layout, "bob", "pw-b", "shop"), client(t, s.Layout, "bob", "pw-b", "other")
	must(t, s.Engine.Revoke(t.Context(), s.Layout, "bob", "", "shop"))
	if _, err := ask(t, bob, "SELECT 1"); err == nil {
		t.Error("the session in the database goes on")
	}
	wantAnswer(t, elsewhere, "SELECT 1", "1")
	must(t, s.Engine.Grant(t.Context(), s.Layout, "bob", "", []string{"shop"}))
	wantAnswer(t, client(t, s.Layout, "bob", "pw-b", "shop"), "SELECT current_user", "owner_of_shop")
}

// TestRootHasEverythingButTheGuest: the tenant's root manages databases and roles, and reads no file and runs no program.
func TestRootHasEverythingButTheGuest(t *testing.T) {
	p := shop()
	p.RootPassword = "pw-root"
	s := prepared(t, p)
	enginetest.Start(t, s)
	major, err := postgresql.Major("")
	must(t, err)
	alice := client(t, s.Layout, "alice", "pw-a", "shop")
	wantAnswer(t, alice, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)", "")
	root := client(t, s.Layout, "postgres", "pw-root", "shop")
	wantAnswer(t, root, "ALTER TABLE t ADD b int; SELECT a FROM t; CREATE TABLE r (a int)", "1")
	wantAnswer(t, root, "CREATE DATABASE by_root", "")
	wantAnswer(t, root, "SELECT count(*) > 0 FROM pg_stat_activity WHERE usename = 'alice' AND query <> '<insufficient privilege>'", "t")
	wantRefused(t, root, "COPY t TO '/tmp/x'", "COPY t FROM PROGRAM 'id'", "SELECT pg_read_file('/etc/passwd')", "ALTER SYSTEM SET work_mem = 1", "SET ROLE trove_admin",
		"ALTER ROLE trove_admin PASSWORD 'x'", "ALTER ROLE postgres SUPERUSER", "GRANT pg_execute_server_program TO postgres",
		"CREATE EXTENSION file_fdw", "SELECT lo_import('/etc/passwd')")
	if major >= 16 {
		wantAnswer(t, root, "CREATE ROLE carol LOGIN PASSWORD 'pw-c'; GRANT owner_of_shop TO carol; ALTER ROLE alice VALID UNTIL 'infinity'", "")
		wantAnswer(t, client(t, s.Layout, "carol", "pw-c", "shop"), "SELECT a FROM t", "1")
		must(t, s.Engine.DropUser(t.Context(), s.Layout, "carol", ""))
	} else {
		wantRefused(t, root, "CREATE ROLE carol")
	}
	must(t, s.Engine.CreateUser(t.Context(), s.Layout, trove.User{Name: "dave", Password: "pw-d", Databases: []string{"by_root"}}))
	wantAnswer(t, client(t, s.Layout, "dave", "pw-d", "by_root"), "CREATE TABLE d (a int)", "")
	wantAnswer(t, client(t, s.Layout, "postgres", "pw-root", "by_root"), "SELECT count(*) FROM d", "0")
	must(t, s.Engine.DisableRoot(t.Context(), s.Layout))
	if _, err := ask(t, root, "SELECT 1"); err == nil {
		t.Error("the session of root goes on")
	}
	must(t, s.Engine.EnableRoot(t.Context(), s.Layout, "pw-again"))
	wantAnswer(t, client(t, s.Layout, "postgres", "pw-again", "shop"), "SELECT count(*) FROM r", "0")
}

// TestNobodyButTheAgentComesAsTheAgent: not over TCP, whatever its password, and not through the socket under another name.
func TestNobodyButTheAgentComesAsTheAgent(t *testing.T) {
	s := prepared(t, shop())
	enginetest.Start(t, s)
	if _, err := connect(t.Context(), s.Layout, "trove_admin", "", "", believing); err == nil || !strings.Contains(err.Error(), "pg_hba.conf rejects") {
		t.Errorf("the agent's role over TCP: %v", err)
	}
	local := s.Layout
	local.Address = s.Layout.Runtime + "/postgresql/run"
	if _, err := connect(t.Context(), local, "alice", "pw-a", "shop", nil); err == nil || !strings.Contains(err.Error(), "pg_hba.conf rejects") {
		t.Errorf("a user through the agent's socket: %v", err)
	}
}

func TestCharacterSetsAndCollations(t *testing.T) {
	s := prepared(t, shop())
	enginetest.Start(t, s)
	ctx, e, l := t.Context(), s.Engine, s.Layout
	for _, d := range []trove.Database{
		{Name: "a", CharacterSet: "UTF8", Collate: "C.UTF-8"},
		{Name: "b", CharacterSet: "UTF8", Collate: "de-x-icu"},
		{Name: "c", CharacterSet: "LATIN1", Collate: "C"},
		{Name: "d", CharacterSet: "UTF8", Collate: "C"},
	} {
		must(t, e.CreateDatabase(ctx, l, d))
		all, err := e.Databases(ctx, l)
		if err != nil || all[0] != d {
			t.Errorf("Databases() begins with %+v, %v, want %+v", all[0], err, d)
		}
		must(t, e.DropDatabase(ctx, l, d.Name))
	}
	for _, d := range []trove.Database{
		{Name: "x", CharacterSet: "klingon"},
		{Name: "x", Collate: "xx_XX"},
		{Name: "x", Collate: "not a name"},
		{Name: "x", CharacterSet: "LATIN1", Collate: "C.UTF-8"},
		{Name: "x", Collate: "utf8_general_ci"},
		{Name: "x", CharacterSet: "SJIS"},
		{Name: "x", Collate: "'; DROP DATABASE shop"},
	} {
		if err := e.CreateDatabase(ctx, l, d); trove.KindOf(err) != trove.KindBadRequest {
			t.Errorf("CreateDatabase(%+v) = %v, want BadRequest", d, err)
		}
	}
	wantAnswer(t, client(t, l, "alice", "pw-a", "shop"), `SELECT 'ä' < 'b' COLLATE "de-x-icu"`, "t")
}

func TestQuoteIsOneIdentifier(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.String().Draw(t, "name")
		q := postgresql.Quote(name)
		inner := q[1 : len(q)-1]
		if q[0] != '"' || q[len(q)-1] != '"' || strings.Contains(strings.ReplaceAll(inner, `""`, ""), `"`) {
			t.Errorf("Quote(%q) = %s ends before its end", name, q)
		}
		if got := strings.ReplaceAll(inner, `""`, `"`); got != name {
			t.Errorf("Quote(%q) means %q", name, got)
		}
	})
}

func TestOwnersHaveDifferentNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[aäß€]{40,63}`), 2, 2, rapid.ID[string]).Draw(t, "names")
		a, b := postgresql.OwnerOf(names[0]), postgresql.OwnerOf(names[1])
		if a == b || len(a) > 63 || !strings.HasPrefix(a, "owner_of_") {
			t.Errorf("%q and %q have the owners %q and %q", names[0], names[1], a, b)
		}
		if postgresql.CheckUser(a) == nil {
			t.Errorf("a user may have the name %q", a)
		}
	})
}

// TestVerifierIsTheServersOwn compares with what PostgreSQL 15 keeps of the password "pencil" for the same salt.
func TestVerifierIsTheServersOwn(t *testing.T) {
	got, err := postgresql.VerifierOf("pencil", []byte("W\x22\xec\x36\xb0\x3d\x4b\x12\x00\x00\x00\x00\x00\x00\x00\x01"))
	must(t, err)
	if !strings.HasPrefix(got, "SCRAM-SHA-256$4096:VyLsNrA9SxIAAAAAAAAAAQ==$") || len(got) != 133 {
		t.Errorf("verifier = %s", got)
	}
}

// TestPasswordsOfEveryKindLetIn logs in with the server's own client, which prepares passwords in its own way (RFC 4013).
func TestPasswordsOfEveryKindLetIn(t *testing.T) {
	var printable strings.Builder
	for r := ' '; r < 0x7f; r++ {
		printable.WriteRune(r)
	}
	passwords := []string{printable.String(), "pässwörd", "\u00a0space\u3000", "soft\u00adhyphen", "ﬁ ligature Ⅸ", "日本語パスワード", "😀emoji", "א1", "אa", "tab\tin", "nfd a\u0308", " x ", `\`, "²"}
	p := engine.Preparation{}
	for i, pw := range passwords {
		p.Users = append(p.Users, trove.User{Name: "u" + string(rune('a'+i)), Password: trove.Secret(pw)})
	}
	s := prepared(t, p)
	enginetest.Start(t, s)
	for i, pw := range passwords {
		if out, err := psql(t, s.Layout, p.Users[i].Name, pw, "SELECT 42"); err != nil || out != "42" {
			t.Errorf("the password %q: %q, %v", pw, out, err)
		}
	}
	if _, err := psql(t, s.Layout, "ua", "wrong", "SELECT 42"); err == nil {
		t.Error("a wrong password lets in: this test proves nothing")
	}
}
