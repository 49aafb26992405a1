package troveimport_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/troveimport"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

// checkGroups looks at the configuration groups and the rules of the first import.
func checkGroups(t *testing.T, into *sqlstore.Store) {
	t.Helper()
	at := time.Date(2024, 1, 5, 6, 7, 8, 0, time.UTC)
	got, err := into.Configuration(t.Context(), group)
	want := trove.Configuration{
		ID: group, ProjectID: "project-a", Name: "busy", Description: "for the shop", DatastoreVersionID: "20000000-0000-4000-8000-000000000001", Created: at, Updated: at,
		Values: map[string]json.RawMessage{
			"max_connections": json.RawMessage(`250`), "long_query_time": json.RawMessage(`2.5`), "innodb_file_per_table": json.RawMessage(`true`),
			"sql_mode": json.RawMessage(`"007"`), "Max_Connections2": json.RawMessage(`"7"`),
		},
		Version: got.Version,
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%s, %v", diff, err)
	}
	if n, err := into.CountConfigured(t.Context(), group); n != 1 || err != nil {
		t.Errorf("the group has %d instances, %v", n, err)
	}
	got, err = into.Configuration(t.Context(), "50000000-0000-4000-8000-000000000003")
	if diff := cmp.Diff(map[string]json.RawMessage{"max_connections": json.RawMessage(`25`), "innodb_stats_on_metadata": json.RawMessage(`false`)}, got.Values); diff != "" || err != nil {
		t.Errorf("%s, %v", diff, err)
	}
	rules, err := into.Parameters(t.Context(), "20000000-0000-4000-8000-000000000001", true)
	if diff := cmp.Diff([]trove.Parameter{
		{Name: "innodb_file_per_table", RestartRequired: true, Type: trove.ParameterBoolean},
		{Name: "long_query_time", Type: trove.ParameterFloat, Min: "0"},
		{Name: "max_connections", Type: trove.ParameterInteger, Min: "1", Max: "100000"},
		{Name: "sql_mode", Type: trove.ParameterString},
	}, rules); diff != "" || err != nil {
		t.Errorf("%s, %v", diff, err)
	}
	rules, err = into.Parameters(t.Context(), "20000000-0000-4000-8000-000000000002", true)
	if diff := cmp.Diff(options(false).Rules("mariadb", "10.11"), rules); diff != "" || err != nil {
		t.Errorf("%s, %v", diff, err)
	}
}

// checkBackups looks at the backups and the strategies of the first import.
func checkBackups(t *testing.T, into *sqlstore.Store) {
	t.Helper()
	at := time.Date(2024, 4, 1, 0, 0, 0, 0, time.UTC)
	got, err := into.Backup(t.Context(), increment)
	if diff := cmp.Diff(trove.Backup{
		ID: increment, ProjectID: "project-a", InstanceID: shop, Name: "increment", ParentID: full, State: trove.BackupCompleted, Size: 0.12,
		Location: "https://swift.example/v1/AUTH_a/backups/increment.xbstream.gz.enc", Checksum: "0cc175b9c0f1b6a831c399e269772661",
		DatastoreVersionID: "20000000-0000-4000-8000-000000000001", StorageDriver: "swift", Created: at, Updated: at,
	}, got); diff != "" || err != nil {
		t.Errorf("%s, %v", diff, err)
	}
	all, err := into.Backups(t.Context(), store.BackupFilter{})
	if len(all) != 3 || err != nil {
		t.Errorf("%+v, %v", all, err)
	}
	if i, err := into.Instance(t.Context(), shop); err != nil || i.BackingUp {
		t.Errorf("%+v, %v", i, err)
	}
	strategies, err := into.BackupStrategies(t.Context(), store.StrategyFilter{})
	if diff := cmp.Diff([]trove.BackupStrategy{
		{ProjectID: "project-a", Backend: "swift", Container: "all-of-a", Created: time.Date(2024, 5, 1, 0, 0, 0, 0, time.UTC)},
		{ProjectID: "project-a", InstanceID: shop, Backend: "swift", Container: "of-the-shop", Created: time.Date(2024, 5, 2, 0, 0, 0, 0, time.UTC)},
	}, strategies); diff != "" || err != nil {
		t.Errorf("%s, %v", diff, err)
	}
}

// TestBackupThatWasDeletedHereStaysSo: the import neither brings it back nor fails over its row, and leaves what builds on it.
func TestBackupThatWasDeletedHereStaysSo(t *testing.T) {
	from, into := liteSource(t), newStore(t)
	lines(t, from, into, false)
	err := into.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		for _, id := range []string{full, increment} {
			if err := tx.DeleteBackup(ctx, id, now); err != nil {
				return err
			}
		}
		return tx.GiveQuota(ctx, "project-a", map[string]int{trove.QuotaBackups: 2})
	})
	if err != nil {
		t.Fatal(err)
	}
	again := lines(t, from, into, false)
	for _, want := range []string{"backup | full | left | it was here and was deleted\n", "backup | increment | left | it was here and was deleted\n"} {
		if !strings.Contains(again, want) {
			t.Errorf("%q is not in %s", want, again)
		}
	}
}

// TestWhatChangedHereStays: the second import touches neither a group, nor a strategy, nor the rules of a version.
func TestWhatChangedHereStays(t *testing.T) {
	from, into := liteSource(t), newStore(t)
	lines(t, from, into, false)
	const version = "20000000-0000-4000-8000-000000000001"
	err := into.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		g, err := tx.Configuration(ctx, group)
		if err != nil {
			return err
		}
		g.Values = map[string]json.RawMessage{"max_connections": json.RawMessage(`5`)}
		if err := tx.UpdateConfiguration(ctx, g, now); err != nil {
			return err
		}
		if err := tx.PutBackupStrategy(ctx, trove.BackupStrategy{ProjectID: "project-a", Backend: "swift", Container: "other", Created: now}); err != nil {
			return err
		}
		return tx.ReplaceParameters(ctx, version, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	again := lines(t, from, into, false)
	g, err := into.Configuration(t.Context(), group)
	if err != nil || string(g.Values["max_connections"]) != "5" || !strings.Contains(again, "configuration | busy | there\n") {
		t.Errorf("%s, %v, %s", g.Values, err, again)
	}
	rules, err := into.Parameters(t.Context(), version, true)
	if err != nil || len(rules) > 0 {
		t.Errorf("rules that were removed came back: %v, %v", rules, err)
	}
	strategies, err := into.BackupStrategies(t.Context(), store.StrategyFilter{ProjectID: "project-a"})
	if err != nil || strategies[0].Container != "other" {
		t.Errorf("%+v, %v", strategies, err)
	}
}

// TestAReplicaThatWasDetachedInTheOtherTroveStaysOneHere: nothing that was taken once could be taken over any more, as a row that is deleted here does not come back.
func TestAReplicaThatWasDetachedInTheOtherTroveStaysOneHere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trove.sqlite")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	fixture(t, db)
	change := func(statement string, args ...any) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), statement, args...); err != nil {
			t.Fatal(err)
		}
	}
	change("UPDATE instances SET access = ? WHERE id IN (?, ?)", `{"is_public": true, "allowed_cidrs": ["192.0.2.0/24"]}`, shop, third)
	from, err := troveimport.Open(t.Context(), "sqlite:///"+path, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = from.Close() })
	into := newStore(t)
	lines(t, from, into, false)
	err = into.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error { // one has been taken over
		return tx.UpdateInstance(ctx, third, now, func(i *trove.Instance) error {
			i.ServerStatus, i.Fault = trove.ServerActive, nil
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	change("UPDATE instances SET slave_of_id = NULL")
	change("UPDATE instances SET access = NULL")
	again := lines(t, from, into, false)
	for _, want := range []string{"instance | shop | there | it is not public any more\n", "instance | shop-replica | there | it is no replica any more\n", "instance | third | there\n"} {
		if !strings.Contains(again, want) {
			t.Errorf("%q is not in %s", want, again)
		}
	}
	for id, want := range map[string]trove.Access{shop: {AllowedCIDRs: []string{"192.0.2.0/24"}}, replica: {}, third: {IsPublic: true, AllowedCIDRs: []string{"192.0.2.0/24"}}} {
		i, err := into.Instance(t.Context(), id)
		if diff := cmp.Diff(want, i.Access); diff != "" || i.ReplicaOf != "" || err != nil {
			t.Errorf("%s is a replica of %q: %s, %v", id, i.ReplicaOf, diff, err)
		}
	}
	if once := lines(t, from, into, false); strings.Contains(once, "any more") {
		t.Errorf("it is said a second time: %s", once)
	}
}

// TestMemoryOfACloudsFlavors: an id of a flavor of Nova is not that of one of ours, even if it reads the same.
func TestMemoryOfACloudsFlavors(t *testing.T) {
	into, o := newStore(t), options(false)
	o.Flavors = nil
	report, err := troveimport.Import(t.Context(), liteSource(t), into, o)
	if err != nil {
		t.Fatal(err)
	}
	if n := slices.IndexFunc(report, func(i troveimport.Item) bool { return i.ID == shop }); n < 0 || report[n].Reason != "its memory counts when it is taken over" {
		t.Errorf("the report is %+v", report)
	}
	if i, err := into.Instance(t.Context(), shop); err != nil || i.Held[trove.QuotaRAM] != 0 {
		t.Errorf("the instance holds %v, %v", i.Held, err)
	}
}
