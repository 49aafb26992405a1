package troveimport_test

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/troveimport"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

var now = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

const (
	shop    = "40000000-0000-4000-8000-000000000001"
	replica = "40000000-0000-4000-8000-000000000002"
	third   = "40000000-0000-4000-8000-000000000003"

	group     = "50000000-0000-4000-8000-000000000001"
	increment = "60000000-0000-4000-8000-000000000001"
	full      = "60000000-0000-4000-8000-000000000002"
)

// fixture fills a database with the schema and content of testdata/trove18.sql.
func fixture(t *testing.T, db *sql.DB) {
	t.Helper()
	data, err := os.ReadFile("testdata/trove18.sql")
	if err != nil {
		t.Fatal(err)
	}
	for statement := range strings.SplitSeq(string(data), ";\n") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

func liteSource(t *testing.T) *troveimport.Source {
	t.Helper()
	path := filepath.Join(t.TempDir(), "trove.sqlite")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	fixture(t, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := troveimport.Open(t.Context(), "sqlite:///"+path, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// newStore is a store with a version of mariadb that came with an image.
func newStore(t *testing.T) *sqlstore.Store {
	t.Helper()
	st, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(t.TempDir(), "store.db"), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	err = st.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		if err := tx.PutDatastore(ctx, trove.Datastore{ID: "own-datastore", Name: "mariadb", DefaultVersionID: "own-version"}); err != nil {
			return err
		}
		return tx.PutDatastoreVersion(ctx, trove.DatastoreVersion{
			ID: "own-version", DatastoreID: "own-datastore", Name: "11.8", Version: "11.8", Manager: "mariadb", Active: true, Capabilities: trove.Capabilities{Port: 3306},
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// options are those of a service with one flavor and one engine.
func options(dry bool) troveimport.Options {
	return troveimport.Options{
		Now: now, Dry: dry, Flavors: []trove.Flavor{{ID: "2", RAM: 2048}},
		Rules: func(manager, _ string) []trove.Parameter {
			return map[string][]trove.Parameter{"mariadb": {
				{Name: "innodb_stats_on_metadata", Type: trove.ParameterBoolean},
				{Name: "max_connections", Type: trove.ParameterInteger, Max: "20"},
				{Name: "wait_timeout", Type: trove.ParameterInteger},
			}}[manager]
		},
	}
}

// lines are the report as text.
func lines(t *testing.T, from *troveimport.Source, into store.Store, dry bool) string {
	t.Helper()
	report, err := troveimport.Import(t.Context(), from, into, options(dry))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, i := range report {
		b.WriteString(strings.TrimRight(strings.Join([]string{i.Kind, i.Name, string(i.Action), i.Reason}, " | "), " |") + "\n")
	}
	return b.String()
}

const firstReport = `datastore | mysql | taken
datastore | mariadb | there | it has the id own-datastore here
datastore | couchbase | taken
version | mysql 8.0 | taken | not active: there is no image of the manager mysql here
version | mariadb 10.11 | taken
version | couchbase 2.2 | taken | not active: there is no image of the manager couchbase here
parameters | mysql 8.0 | taken | 4 rules, without those of plugins, which cannot be read
parameters | mariadb 10.11 | taken | 3 rules of the engine here, not the source's 1
quota | project-a instances | taken | 2
quota | project-a volumes | taken | 100
quota | project-b cores | left | there is no such resource here
quota | project-a backups | taken | 2
configuration | busy | taken | the rules here do not allow its values of Max_Connections2
configuration | of mariadb | taken | left out, as they are not of their type: character_set_server, wait_timeout; the rules here do not allow its values of max_connections
configuration | of no version | left | its datastore version "20000000-0000-4000-8000-000000000009" is not in the source
instance | shop | taken
instance | shop-replica | taken
instance | third | taken | its access rules cannot be read and are left out; its configuration group 50000000-0000-4000-8000-000000000001 is not here for its version and is left out; its memory does not count: there is no flavor 9 here
instance | resizing | left | something is being done to it: task RESIZING
instance | member | left | it is part of a cluster
instance | of no version | left | its datastore version "20000000-0000-4000-8000-000000000009" is not in the source
root | u-1 | taken
backup | full | taken
backup | increment | taken
backup | of a deleted instance | taken | its datastore version is not in the source and is left out
backup | running | left | it is being made: state BUILDING
backup | on a running one | left | it builds on backup 60000000-0000-4000-8000-000000000004, which is not here
strategy | project-a | taken | container all-of-a
strategy | project-a 40000000-0000-4000-8000-000000000001 | taken | container of-the-shop
strategy | project-b | left | there is no backend "ceph" here
strategy | project-c | left | it has no project or no container
module | licence | left | its contents are encrypted with a key of the other service: make it anew with trove module create
cluster | trio | left | a cluster with members cannot be deleted here, so neither it nor they are taken
quota | project-a backups | taken | raised to 3: that much is in use
quota | project-a instances | taken | raised to 3: that much is in use
backups | 1 rows | left | they are deleted in the source
configurations | 1 rows | left | they are deleted in the source
`

func TestDryRunSaysWhatWouldBeAndChangesNothing(t *testing.T) {
	from, into := liteSource(t), newStore(t)
	for range 2 {
		if diff := cmp.Diff(firstReport, lines(t, from, into, true)); diff != "" {
			t.Error(diff)
		}
	}
	found, err := into.ManagedInstances(t.Context(), store.ManagedFilter{})
	if err != nil || len(found) > 0 {
		t.Errorf("a dry run left %v, %v", found, err)
	}
	if _, err := into.Datastore(t.Context(), "mysql"); !trove.IsNotFound(err) {
		t.Errorf("a dry run left a datastore: %v", err)
	}
	if diff := cmp.Diff(firstReport, lines(t, from, into, false)); diff != "" {
		t.Errorf("the real one says something else: %s", diff)
	}
}

// checkImported looks at what the first import has made.
func checkImported(t *testing.T, into *sqlstore.Store) {
	t.Helper()
	i, err := into.Instance(t.Context(), shop)
	if err != nil {
		t.Fatal(err)
	}
	want := trove.Instance{
		ID: shop, ProjectID: "project-a", Name: "shop", Created: time.Date(2024, 2, 3, 4, 5, 6, 0, time.UTC), Updated: time.Date(2024, 2, 4, 4, 5, 6, 0, time.UTC),
		Task: trove.TaskNone, DatastoreVersionID: "20000000-0000-4000-8000-000000000001", FlavorID: "2", VolumeSize: 5, Region: "RegionOne",
		Access: trove.Access{IsPublic: true, AllowedCIDRs: []string{"10.0.0.0/8"}}, ComputeID: "c1", VolumeID: "v1", ConfigurationID: group,
		Held: map[string]int{trove.QuotaInstances: 1, trove.QuotaVolumes: 5, trove.QuotaRAM: 2048}, Fault: i.Fault, ServerID: i.ServerID, Version: i.Version, Guest: i.Guest,
	}
	if diff := cmp.Diff(want, i); diff != "" || i.Fault == nil || i.Status(false) != "UNKNOWN" {
		t.Errorf("%s, fault %+v, status %s", diff, i.Fault, i.Status(false))
	}
	if i, err = into.Instance(t.Context(), replica); err != nil || i.ReplicaOf != shop {
		t.Errorf("%+v, %v", i, err)
	}
	if i, err = into.Instance(t.Context(), third); err != nil || i.Task != trove.TaskBuildErrorReplica || i.DatastoreVersionID != "20000000-0000-4000-8000-000000000002" ||
		i.ConfigurationID != "" || i.Held[trove.QuotaRAM] != 0 {
		t.Errorf("%+v, %v", i, err)
	}
	v, err := into.DatastoreVersion(t.Context(), "20000000-0000-4000-8000-000000000001")
	if err != nil || v.Active || v.Version != "8.0.29" || cmp.Diff([]string{"2"}, v.FlavorIDs) != "" || cmp.Diff([]string{"fast"}, v.VolumeTypes) != "" || len(v.Packages) != 2 {
		t.Errorf("%+v, %v", v, err)
	}
	v, err = into.DatastoreVersion(t.Context(), "20000000-0000-4000-8000-000000000002")
	if err != nil || !v.Active || v.DatastoreID != "own-datastore" || v.Capabilities.Port != 3306 {
		t.Errorf("%+v, %v", v, err)
	}
	for name, def := range map[string]string{"mysql": "20000000-0000-4000-8000-000000000001", "mariadb": "own-version", "couchbase": ""} {
		if d, err := into.Datastore(t.Context(), name); err != nil || d.DefaultVersionID != def {
			t.Errorf("%+v, %v", d, err)
		}
	}
	quotas, err := into.Quotas(t.Context(), "project-a")
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range quotas {
		if want := map[string][2]int{trove.QuotaInstances: {3, 3}, trove.QuotaVolumes: {15, 100}, trove.QuotaBackups: {3, 3}, trove.QuotaRAM: {4096, q.Limit}}[q.Resource]; want[0] != 0 && want != [2]int{q.InUse, q.Limit} {
			t.Errorf("%+v, want %v", q, want)
		}
	}
	h, err := into.RootHistory(t.Context(), shop)
	if err != nil || h.UserID != "u-1" || !h.Enabled.Equal(time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC)) || !h.Disabled.IsZero() {
		t.Errorf("%+v, %v", h, err)
	}
	checkGroups(t, into)
	checkBackups(t, into)
}

// TestAgainChangesNothing: the second run finds everything, and nothing that was changed or deleted meanwhile comes back.
func TestAgainChangesNothing(t *testing.T) {
	from, into := liteSource(t), newStore(t)
	lines(t, from, into, false)
	checkImported(t, into)
	second := lines(t, from, into, false)
	checkImported(t, into)
	for line := range strings.Lines(second) {
		if strings.Contains(line, "| taken") {
			t.Errorf("the second run took something: %s", line)
		}
	}
	err := into.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error { return tx.DeleteInstance(ctx, replica, now) })
	if err != nil {
		t.Fatal(err)
	}
	if again := lines(t, from, into, false); !strings.Contains(again, "instance | shop-replica | left | it was here and was deleted") {
		t.Error(again)
	}
}

func TestSourcesThatAreNone(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.sqlite")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for from, text := range map[string]string{
		"postgresql://x/y":                "not \"postgresql\"",
		"mysql://trove:secret@h/trove":    "has a password",
		"sqlite:///" + empty + ".missing": "There is no file",
		"sqlite:///" + t.TempDir():        "There is no file",
		"://":                             "is no URL",
		"file://" + empty + ".missing":    "There is no file",
	} {
		if _, err := troveimport.Open(t.Context(), from, ""); err == nil || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", from, err)
		}
	}
	s, err := troveimport.Open(t.Context(), "sqlite:///"+empty, "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if _, err := troveimport.Import(t.Context(), s, newStore(t), options(false)); trove.KindOf(err) != trove.KindBadRequest {
		t.Errorf("an empty database: %v", err)
	}
}

// TestFromADump reads the fixture as text, with what a dump may have besides: comments, several rows in a statement, and texts that look like statements.
func TestFromADump(t *testing.T) {
	data, err := os.ReadFile("testdata/trove18.sql")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(data), "'shop', 'c1'", `'it''s; INSERT INTO \'x\' \\ (a),\n', 'c1'`, 1)
	text = "/*!40101 SET NAMES utf8mb4 */;\n-- it's a dump; really\n" + text + "INSERT INTO `quotas` (`id`, `tenant_id`, `resource`, `hard_limit`) VALUES ('q8','project-c','ram',NULL),('q9','project-c','instances',7);\n"
	path := filepath.Join(t.TempDir(), "trove.sql")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	from, err := troveimport.Open(t.Context(), "file://"+path, "")
	if err != nil {
		t.Fatal(err)
	}
	into := newStore(t)
	report := lines(t, from, into, false)
	i, err := into.Instance(t.Context(), shop)
	if err != nil || i.Name != "it's; INSERT INTO 'x' \\ (a),\n" {
		t.Errorf("%q, %v", i.Name, err)
	}
	if !strings.Contains(report, "quota | project-c instances | taken | 7") || !strings.Contains(report, "quota | project-c ram | left") {
		t.Error(report)
	}
}

// FuzzDump reads anything: it is a dump or an error, and never an endless loop.
func FuzzDump(f *testing.F) {
	for _, seed := range []string{
		"INSERT INTO `instances` VALUES (1,'a',NULL);", "CREATE TABLE `t` (\n  `a` int\n);INSERT INTO `t` VALUES (1),('x');", "INSERT INTO t (a) VALUES ('\\", "INSERT INTO t VALUES (,)", "--", "'",
	} {
		f.Add(seed)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(dir, "dump.sql")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := troveimport.Open(t.Context(), "file://"+path, ""); err != nil && trove.KindOf(err) != trove.KindBadRequest {
			t.Error(err)
		}
	})
}
