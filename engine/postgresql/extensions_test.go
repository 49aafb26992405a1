package postgresql_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/trove-dbaas/trove/engine/enginetest"
	"github.com/trove-dbaas/trove/engine/postgresql"
)

// extension is one that a tenant's user makes, with what shows that it works.
type extension struct {
	name      string
	since     int  // the first version that our images have it for
	imageOnly bool // a server of the distribution's package alone has it not
	use, want string
}

var extensions = []extension{
	{name: "pg_trgm", use: "SELECT similarity('word', 'words') > 0.5", want: "t"},
	{name: "hstore", use: "SELECT 'a=>1'::hstore -> 'a'", want: "1"},
	{name: "pgcrypto", use: "SELECT length(gen_salt('bf'))", want: "29"},
	{
		name: "vector", since: 17, imageOnly: true,
		use: "CREATE TABLE items (v vector(3)); CREATE INDEX ON items USING hnsw (v vector_l2_ops); INSERT INTO items VALUES ('[1,2,3]'), ('[4,5,6]'); SELECT v FROM items ORDER BY v <-> '[3,3,3]' LIMIT 1", want: "[1,2,3]",
	},
	{
		name: "postgis", imageOnly: true,
		use:  "CREATE TABLE places (g geometry(Point, 4326)); CREATE INDEX ON places USING gist (g); INSERT INTO places VALUES (ST_SetSRID(ST_MakePoint(13.4, 52.5), 4326)); SELECT ST_AsText(g) || ' ' || (ST_Distance(g::geography, 'POINT(13.4 52.6)'::geography)::int / 1000) FROM places",
		want: "POINT(13.4 52.5) 11",
	},
}

// dangerous are extensions that lead out of the databases, or into others.
var dangerous = []string{"adminpack", "amcheck", "dblink", "file_fdw", "pageinspect", "pg_buffercache", "postgres_fdw", "plpython3u"}

// inImage says whether this runs in the root file system of an image, as tests/enginematrix does it.
func inImage() bool {
	_, err := os.Stat("/run/package")
	return err == nil
}

func available(t *testing.T, c *pgconn.PgConn, name string) bool {
	t.Helper()
	out, err := ask(t, c, "SELECT name FROM pg_available_extensions WHERE name = '"+name+"'")
	must(t, err)
	return out != ""
}

// TestUsersMakeExtensions: whoever has all rights on a database makes those that are trusted, uses them and drops them, and no others.
func TestUsersMakeExtensions(t *testing.T) {
	s := prepared(t, shop())
	enginetest.Start(t, s)
	alice := client(t, s.Layout, "alice", "pw-a", "shop")
	major, err := postgresql.Major("")
	must(t, err)
	for _, x := range extensions {
		there := available(t, alice, x.name)
		if want := x.since <= major && (!x.imageOnly || inImage()); want && !there {
			t.Errorf("the extension %s is missing", x.name)
		}
		if x.since > major && there && inImage() {
			t.Errorf("the extension %s is there, and the documentation says that version %d has none", x.name, major)
		}
		if !there || x.imageOnly && !inImage() { // who installed it did not mark it as trusted
			continue
		}
		wantAnswer(t, alice, "CREATE EXTENSION "+x.name, "")
		wantAnswer(t, alice, x.use, x.want)
		wantAnswer(t, client(t, s.Layout, "bob", "pw-b", "shop"), "DROP EXTENSION "+x.name+" CASCADE", "") // he has the database as well
	}
	for _, name := range dangerous {
		_, err := ask(t, alice, "CREATE EXTENSION "+name)
		e, ok := errors.AsType[*pgconn.PgError](err)
		if !ok || e.Code != "42501" && !strings.Contains(e.Message, "is not available") {
			t.Errorf("CREATE EXTENSION %s: %v, want it refused", name, err)
		}
	}
}
