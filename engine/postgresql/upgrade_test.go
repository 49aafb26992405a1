package postgresql_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/enginetest"
	"github.com/trove-dbaas/trove/engine/postgresql"
)

func quiet(string, int) {}

// previous are the root file systems of older versions, which tests/enginematrix puts beside the one that this runs in, by version.
func previous(t *testing.T) map[int]string {
	t.Helper()
	found, err := filepath.Glob("/run/previous/*/usr/lib/postgresql/*/bin/postgres")
	must(t, err)
	all := map[int]string{}
	for _, path := range found {
		n, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		must(t, err)
		all[n] = strings.TrimSuffix(path, fmt.Sprintf("/usr/lib/postgresql/%d/bin/postgres", n))
	}
	return all
}

// oldRoot makes a tree whose programs are those of an older version, run by its own loader, so that a driver can serve data with it.
func oldRoot(t *testing.T, root string, major int) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pgo") //nolint:usetesting // other accounts run it
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	home := fmt.Sprintf("usr/lib/postgresql/%d", major)
	bin := filepath.Join(dir, home, "bin")
	must(t, os.MkdirAll(bin, 0o755))
	must(t, os.Symlink(filepath.Join(root, home, "lib"), filepath.Join(dir, home, "lib")))
	linkShare(t, root, dir, fmt.Sprintf("usr/share/postgresql/%d", major))
	loaders, err := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu*/ld-linux*.so.*"))
	if err != nil || len(loaders) == 0 {
		t.Fatalf("the old root has no loader: %v", err)
	}
	programs, err := os.ReadDir(filepath.Join(root, home, "bin"))
	must(t, err)
	for _, p := range programs {
		script := fmt.Sprintf("#!/bin/sh\nLOCPATH=%s/usr/lib/locale exec %s --argv0 \"$0\" --library-path %s %s \"$@\"\n",
			root, loaders[0], filepath.Dir(loaders[0]), filepath.Join(root, home, "bin", p.Name()))
		must(t, os.WriteFile(filepath.Join(bin, p.Name()), []byte(script), 0o755))
	}
	return dir
}

// linkShare links what lies beside the old programs. Extensions' files may be links that begin at the old root: they are followed there.
func linkShare(t *testing.T, root, dir, share string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(dir, share, "extension"), 0o755))
	for _, folder := range []string{share, share + "/extension"} {
		entries, err := os.ReadDir(filepath.Join(root, folder))
		must(t, err)
		for _, e := range entries {
			if e.IsDir() && e.Name() == "extension" {
				continue
			}
			from := filepath.Join(root, folder, e.Name())
			for range 8 {
				to, err := os.Readlink(from)
				if err != nil {
					break
				}
				if filepath.IsAbs(to) {
					from = filepath.Join(root, to)
				} else {
					from = filepath.Join(filepath.Dir(from), to)
				}
			}
			must(t, os.Symlink(from, filepath.Join(dir, folder, e.Name())))
		}
	}
}

// content is what must be the same before and after.
const content = `SELECT (SELECT count(*) || md5(string_agg(a || b, ',' ORDER BY a)) FROM t) || (SELECT string_agg(name, ' ' ORDER BY name COLLATE "de-x-icu") FROM words)
	|| (SELECT count(*) FROM pg_largeobject_metadata) || (SELECT nextval('s') > 0)`

// TestUpgradeFromEveryOlderVersion takes data from each version that is there, with the previous programs out of their own root. Where there is none, as for the
// oldest, what is left is TestUpgradeToTheSameVersionDoesNothing.
func TestUpgradeFromEveryOlderVersion(t *testing.T) {
	for from, root := range previous(t) {
		t.Run(strconv.Itoa(from), func(t *testing.T) { upgradeFrom(t, from, root) })
	}
}

func upgradeFrom(t *testing.T, from int, root string) {
	ctx, e := t.Context(), newEngine()
	to, err := postgresql.Major("")
	must(t, err)
	old := setup(t)
	old.Layout.Root = oldRoot(t, root, from)
	must(t, e.Initialise(ctx, old.Layout))
	prepare(t, old, shop())
	srv := enginetest.Start(t, old)
	alice := client(t, old.Layout, "alice", "pw-a", "shop")
	wantAnswer(t, alice, `CREATE TABLE t AS SELECT a, md5(a::text) b FROM generate_series(1, 20000) a; CREATE INDEX ON t (b); CREATE SEQUENCE s;
		CREATE TABLE words (name text COLLATE "de-x-icu" PRIMARY KEY); INSERT INTO words VALUES ('Zebra'), ('ähnlich'), ('Apfel'), ('öde'), ('ß')`, "")
	wantAnswer(t, alice, "SELECT lo_create(0) > 0", "t")
	before, err := ask(t, alice, content)
	must(t, err)
	withPostGIS := available(t, alice, "postgis")
	if withPostGIS {
		wantAnswer(t, alice, "CREATE EXTENSION postgis; CREATE TABLE places AS SELECT ST_MakePoint(1, 2) AS g; CREATE INDEX ON places USING gist (g)", "")
	}
	wantAnswer(t, alice, "CREATE TABLE blocker (r regproc)", "")
	findings, err := e.CheckUpgrade(ctx, old.Layout, strconv.Itoa(to))
	must(t, err)
	if !slices.ContainsFunc(findings, func(f engine.Finding) bool { return f.Blocks && strings.Contains(f.Sentence, "public.blocker.r") }) {
		t.Errorf("CheckUpgrade() = %+v, want the column of type regproc", findings)
	}
	srv.Stop()
	next := old
	next.Layout.Root = ""
	err = e.Upgrade(ctx, next.Layout, root, quiet)
	if trove.KindOf(err) != trove.KindUnprocessable || !strings.Contains(trove.MessageOf(err), "blocker") {
		t.Errorf("Upgrade() of what cannot be upgraded = %v, want the table named", err)
	}
	srv = enginetest.Start(t, old) // the old version goes on with its data
	alice = client(t, old.Layout, "alice", "pw-a", "shop")
	wantAnswer(t, alice, "DROP TABLE blocker", "")
	if findings, err = e.CheckUpgrade(ctx, old.Layout, strconv.Itoa(to)); err != nil || slices.ContainsFunc(findings, func(f engine.Finding) bool { return f.Blocks }) {
		t.Errorf("CheckUpgrade() = %+v, %v, want nothing that blocks", findings, err)
	}
	srv.Stop()

	kept := old
	kept.Layout = layout(t)
	kept.Layout.Root = old.Layout.Root
	copyTree(t, old.Layout.Data, kept.Layout.Data)
	copyTree(t, old.Layout.State, kept.Layout.State)

	programs, data, err := e.Versions(ctx, next.Layout)
	if err != nil || !strings.HasPrefix(programs, strconv.Itoa(to)+".") || !strings.HasPrefix(data, strconv.Itoa(from)+".") {
		t.Errorf("Versions() = %s, %s, %v", programs, data, err)
	}
	if err := e.Upgrade(ctx, next.Layout, "", quiet); trove.KindOf(err) != trove.KindUnavailable {
		t.Errorf("Upgrade() without the old programs = %v, want Unavailable", err)
	}
	killedUpgrade(t, next.Layout)
	if newerRelease(t, root, from, to) {
		err := e.Upgrade(ctx, next.Layout, root, quiet)
		if trove.KindOf(err) != trove.KindUnprocessable || !strings.Contains(trove.MessageOf(err), "newer release") {
			t.Errorf("Upgrade() = %v, want it said that the release is too old", err)
		}
		srv = enginetest.Start(t, old) // and the old version goes on
		wantAnswer(t, client(t, old.Layout, "alice", "pw-a", "shop"), content, before)
		srv.Stop()
		return
	}
	for range 2 { // it may be repeated
		must(t, e.Upgrade(ctx, next.Layout, root, quiet))
	}
	srv = enginetest.Start(t, next)
	done, err := e.FinishUpgrade(ctx, next.Layout, quiet)
	if err != nil || !slices.ContainsFunc(done, func(s string) bool { return strings.Contains(s, `statistics of database "shop"`) }) {
		t.Errorf("FinishUpgrade() = %q, %v", done, err)
	}
	if done, err = e.FinishUpgrade(ctx, next.Layout, quiet); err != nil || len(done) > 0 {
		t.Errorf("FinishUpgrade() again = %q, %v, want nothing done", done, err)
	}
	alice = client(t, next.Layout, "alice", "pw-a", "shop")
	wantAnswer(t, alice, "SELECT current_user || current_setting('server_version_num')::int / 10000", "owner_of_shop"+strconv.Itoa(to))
	wantAnswer(t, alice, content, before)
	if withPostGIS {
		wantAnswer(t, alice, "SELECT ST_AsText(g), postgis_lib_version() = extversion FROM places, pg_extension WHERE extname = 'postgis'", "POINT(1 2)|t")
	}
	wantAnswer(t, alice, "INSERT INTO t SELECT a, 'x' FROM generate_series(1, 5000) a; DELETE FROM t WHERE b <> 'x'; SELECT count(*) FROM t", "5000")
	must(t, e.CreateUser(ctx, next.Layout, trove.User{Name: "new", Password: "pw-n", Databases: []string{"shop"}}))
	if _, data, err = e.Versions(ctx, next.Layout); err != nil || !strings.HasPrefix(data, strconv.Itoa(to)+".") {
		t.Errorf("Versions() after the upgrade: data %s, %v", data, err)
	}
	srv.Stop()
	if err := e.Upgrade(ctx, old.Layout, root, quiet); trove.KindOf(err) != trove.KindBadRequest {
		t.Errorf("Upgrade() to the older version = %v, want BadRequest", err)
	}
	for _, name := range []string{"pgsql.new", "pgsql.old", "pgsql-upgrade", "pgsql/trove-upgraded"} {
		if _, err := os.Lstat(filepath.Join(next.Layout.Data, name)); err == nil {
			t.Errorf("%s is still there", name)
		}
	}

	srv = enginetest.Start(t, kept) // what the new version did is not in the copy
	wantAnswer(t, client(t, kept.Layout, "alice", "pw-a", "shop"), content, before)
	srv.Stop()
}

// newerRelease says that the old version's release writes what the new version's does not know: releases of the second half of 2026 note in each column which
// of them made it, and the unstable suite may be behind the stable ones.
func newerRelease(t *testing.T, root string, from, to int) bool {
	t.Helper()
	knows := func(root string, major int) bool {
		data, err := os.ReadFile(fmt.Sprintf("%s/usr/lib/postgresql/%d/bin/postgres", root, major))
		must(t, err)
		return strings.Contains(string(data), "pg_attver")
	}
	return knows(root, from) && !knows("", to)
}

// killedUpgrade leaves what a pg_upgrade that was killed while it linked leaves.
func killedUpgrade(t *testing.T, l engine.Layout) {
	t.Helper()
	control := filepath.Join(l.Data, "pgsql/global/pg_control")
	must(t, os.Rename(control, control+".old"))
	half := filepath.Join(l.Data, "pgsql.new", "base/1")
	must(t, os.MkdirAll(half, 0o700))
	must(t, os.Link(filepath.Join(l.Data, "pgsql/PG_VERSION"), filepath.Join(half, "linked")))
	must(t, os.MkdirAll(filepath.Join(l.Data, "pgsql-upgrade/bin"), 0o700))
}

func TestUpgradeToTheSameVersionDoesNothing(t *testing.T) {
	s := prepared(t, shop())
	ctx, e := t.Context(), newEngine()
	for range 2 {
		must(t, e.Upgrade(ctx, s.Layout, "", quiet))
	}
	srv := enginetest.Start(t, s)
	programs, data, err := e.Versions(ctx, s.Layout)
	if err != nil || programs != data {
		t.Errorf("Versions() = %s, %s, %v", programs, data, err)
	}
	if done, err := e.FinishUpgrade(ctx, s.Layout, quiet); err != nil || len(done) > 0 {
		t.Errorf("FinishUpgrade() = %q, %v", done, err)
	}
	major, err := postgresql.Major("")
	must(t, err)
	if findings, err := e.CheckUpgrade(ctx, s.Layout, strconv.Itoa(major)+".99"); err != nil || len(findings) > 0 {
		t.Errorf("CheckUpgrade() for a newer release = %+v, %v", findings, err)
	}
	if findings, err := e.CheckUpgrade(ctx, s.Layout, "9.6"); err != nil || len(findings) != 1 || !findings[0].Blocks {
		t.Errorf("CheckUpgrade() for an older version = %+v, %v", findings, err)
	}
	if _, err := e.CheckUpgrade(ctx, s.Layout, "newest"); trove.KindOf(err) != trove.KindBadRequest {
		t.Errorf("CheckUpgrade() for no version = %v", err)
	}
	srv.Stop()
	must(t, os.WriteFile(filepath.Join(s.Layout.Data, "pgsql/PG_VERSION"), []byte("99\n"), 0o600))
	if err := e.Upgrade(ctx, s.Layout, "", quiet); trove.KindOf(err) != trove.KindBadRequest {
		t.Errorf("Upgrade() of data of a newer version = %v, want BadRequest", err)
	}
}

// TestFindingsBeforeAnUpgrade makes everything that is in the way.
func TestFindingsBeforeAnUpgrade(t *testing.T) {
	p := shop()
	p.RootPassword = "pw-root"
	p.Settings.Overrides = raw(map[string]string{"max_prepared_transactions": "5"})
	s := prepared(t, p)
	enginetest.Start(t, s)
	alice := client(t, s.Layout, "alice", "pw-a", "shop")
	wantAnswer(t, alice, "CREATE TABLE r (a regrole, b regclass, c regproc[], d regoper)", "") // regrole, regclass and regtype keep their numbers
	wantAnswer(t, alice, "BEGIN; INSERT INTO r VALUES (NULL); PREPARE TRANSACTION 'gid''1'", "")
	root := client(t, s.Layout, "postgres", "pw-root", "")
	wantAnswer(t, root, "CREATE DATABASE closed ALLOW_CONNECTIONS false", "")
	findings, err := newEngine().CheckUpgrade(t.Context(), s.Layout, "99")
	must(t, err)
	var text strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&text, "%t %s\n", f.Blocks, f.Sentence)
	}
	for _, want := range []string{"true There are prepared transactions ('gid''1')", "true Nobody can connect to these databases: closed", "public.r.d"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the findings are\n%swant %q", text.String(), want)
		}
	}
	if strings.Contains(text.String(), "public.r.a") || strings.Contains(text.String(), "public.r.b") {
		t.Errorf("the findings name what is not in the way:\n%s", text.String())
	}
}

// TestIndexesAreMadeAnewWhenTheirOrderHasChanged tells the server that indexes were made by another version of a library.
func TestIndexesAreMadeAnewWhenTheirOrderHasChanged(t *testing.T) {
	s := prepared(t, shop())
	ctx, e, l := t.Context(), newEngine(), s.Layout
	srv := enginetest.Start(t, s)
	must(t, e.CreateDatabase(ctx, l, trove.Database{Name: "icu", Collate: "de-x-icu"}))
	must(t, e.Grant(ctx, l, "alice", "", []string{"icu"}))
	for _, d := range []string{"shop", "icu"} {
		wantAnswer(t, client(t, l, "alice", "pw-a", d), `CREATE TABLE w (a text COLLATE "de-x-icu", b text, c int); CREATE INDEX by_a ON w (a); CREATE INDEX by_b ON w (b);
			CREATE INDEX by_c ON w (c); CREATE INDEX by_x ON w (c) WHERE b COLLATE "de-x-icu" > 'x'; INSERT INTO w VALUES ('ä', 'b', 1)`, "")
	}
	srv.Stop()
	major, err := postgresql.Major("")
	must(t, err)
	for _, d := range []string{"shop", "icu"} { // as a server that is started for one user
		single(t, l, major, d, "UPDATE pg_collation SET collversion = '0.1' WHERE collname = 'de-x-icu'", "UPDATE pg_database SET datcollversion = '0.1' WHERE datname = 'icu'")
	}
	enginetest.Start(t, s)
	nodes := "SELECT string_agg(relname || '=' || relfilenode, ' ' ORDER BY relname) FROM pg_class WHERE relname LIKE 'by%'"
	changed := map[string][]string{"shop": {"by_a", "by_x"}, "icu": {"by_a", "by_b", "by_x"}}
	before := map[string]string{}
	for d := range changed {
		before[d], err = ask(t, client(t, l, "alice", "pw-a", d), nodes)
		must(t, err)
	}
	done, err := e.FinishUpgrade(ctx, l, quiet)
	if err != nil || len(done) != 2 {
		t.Errorf("FinishUpgrade() = %q, %v, want a sentence for each database", done, err)
	}
	for d, want := range changed {
		after, err := ask(t, client(t, l, "alice", "pw-a", d), nodes)
		must(t, err)
		a, b := strings.Fields(after), strings.Fields(before[d])
		for i := range a {
			name, _, _ := strings.Cut(a[i], "=")
			if (a[i] != b[i]) != slices.Contains(want, name) {
				t.Errorf("database %s: %s before, %s after, want %v made anew", d, b[i], a[i], want)
			}
		}
	}
	if done, err = e.FinishUpgrade(ctx, l, quiet); err != nil || len(done) > 0 {
		t.Errorf("FinishUpgrade() again = %q, %v", done, err)
	}
}
