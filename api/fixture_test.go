package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

// labID is an instance that was there before the recording.
const labID = "10000000-0000-4000-8000-000000000001"

var datastoreFixture = []struct {
	name     string
	id       string
	versions []string // the last one is the default
}{
	{"mysql", "a1000000-0000-4000-8000-000000000000", []string{"5.7.29", "8.0.29"}},
	{"mariadb", "a2000000-0000-4000-8000-000000000000", []string{"10.4.18", "10.11.6"}},
	{"postgresql", "a3000000-0000-4000-8000-000000000000", []string{"12.4", "15.4"}},
}

func versionID(ds, version string) string {
	for d, f := range datastoreFixture {
		for n, v := range f.versions {
			if f.name == ds && v == version {
				return fmt.Sprintf("b%d%d00000-0000-4000-8000-000000000000", d+1, n+1)
			}
		}
	}
	return ""
}

func inTx(t testing.TB, st *sqlstore.Store, fn func(ctx context.Context, tx store.Tx) error) {
	t.Helper()
	if err := st.InTx(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

// fixtureEngines are the drivers of the recording's datastores. A new version begins without parameters, as it does in Trove.
func fixtureEngines() map[string]api.Engine {
	all := map[string]api.Engine{}
	for _, f := range datastoreFixture {
		all[f.name] = api.Engine{Capabilities: fixtureCapabilities, Defaults: func(ram, vcpus int) map[string]string {
			return map[string]string{"port": "3306", "innodb_buffer_pool_size": fmt.Sprintf("%dM", ram/4), "thread_cache_size": strconv.Itoa(4 * vcpus)}
		}}
	}
	return all
}

// recordedRules are the rules that the recording's server had loaded, by datastore.
func recordedRules() (map[string][]trove.Parameter, error) {
	data, err := os.ReadFile("testdata/golden/parameters.jsonl")
	if err != nil {
		return nil, err
	}
	all := map[string][]trove.Parameter{}
	for line := range bytes.Lines(data) {
		var r struct {
			Name     string
			Response struct {
				JSON struct {
					Parameters []trove.Parameter `json:"configuration-parameters"`
				}
			}
		}
		if err := json.Unmarshal(line, &r); err != nil {
			continue // not a list
		}
		if name, ok := map[string]string{"list-mysql": "mysql", "list-mariadb-by-name": "mariadb", "list-postgresql": "postgresql"}[r.Name]; ok {
			all[name] = r.Response.JSON.Parameters
		}
	}
	if len(all) != len(datastoreFixture) {
		return nil, fmt.Errorf("the recording has rules of %d datastores", len(all))
	}
	return all, nil
}

var fixtureCapabilities = trove.Capabilities{
	Port: 3306, Volume: true, Databases: true, Users: true, Root: true, Replication: true, UserHosts: true,
	ReservedUsers: []string{"os_admin", "root"}, ReservedDatabases: []string{"mysql", "information_schema", "performance_schema", "sys"},
	MaxUserName: 16, MaxDatabaseName: 64,
	CharacterSets: map[string][]string{"utf8": {"utf8_general_ci", "utf8_bin"}, "latin1": {"latin1_swedish_ci"}},
}

func loadDatastores(st *sqlstore.Store) error {
	rules, err := recordedRules()
	if err != nil {
		return err
	}
	return st.InTx(context.Background(), func(ctx context.Context, tx store.Tx) error {
		for _, d := range datastoreFixture {
			ds := trove.Datastore{ID: d.id, Name: d.name, DefaultVersionID: versionID(d.name, d.versions[len(d.versions)-1])}
			if err := tx.PutDatastore(ctx, ds); err != nil {
				return err
			}
			caps := fixtureCapabilities
			caps.Clusters = d.name == "mariadb"
			for _, v := range d.versions {
				err := tx.PutDatastoreVersion(ctx, trove.DatastoreVersion{
					ID: versionID(d.name, v), DatastoreID: d.id, Name: v, Version: v, Manager: d.name, ImageID: imageID, Active: true, Capabilities: caps,
				})
				if err == nil {
					err = tx.ReplaceParameters(ctx, versionID(d.name, v), rules[d.name])
				}
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// addLab makes the instance that was there before.
func (w *world) addLab(t testing.TB) {
	t.Helper()
	now := w.clock.Now()
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error {
		return tx.InsertInstance(ctx, trove.Instance{
			ID: labID, ProjectID: project, Name: "lab-1", Created: now, Updated: now, DatastoreVersionID: versionID("mysql", "5.7.29"),
			FlavorID: "2", VolumeSize: 1, Region: "RegionOne", Held: map[string]int{trove.QuotaInstances: 1, trove.QuotaRAM: 2048, trove.QuotaVolumes: 1},
		})
	})
	w.activate(t, labID)
	w.report(t, labID, trove.ServiceHealthy, now)
}

// activate makes an instance look built.
func (w *world) activate(t testing.TB, id string) {
	t.Helper()
	w.change(t, id, func(i *trove.Instance) {
		i.Task, i.ServerStatus = trove.TaskNone, trove.ServerActive
		i.Addresses = []trove.Address{{Address: "10.0.0.10", Type: "private", Network: networkID}}
		i.ComputeID, i.VolumeID, i.Fault, i.ReplicaOf = absentID, absentID, nil, ""
		i.DatastoreVersionID = versionID("mysql", "5.7.29")
	})
}

func (w *world) change(t testing.TB, id string, change func(*trove.Instance)) {
	t.Helper()
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error {
		return tx.UpdateInstance(ctx, id, w.clock.Now(), func(i *trove.Instance) error { change(i); return nil })
	})
}

// report says for a guest what its service is and when it was seen.
func (w *world) report(t testing.TB, id string, s trove.ServiceStatus, at time.Time) {
	t.Helper()
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error {
		err := tx.RecordReports(ctx, []store.GuestReport{{
			InstanceID: id, SeenAt: at, BootID: trove.NewID(), Service: s, VolumeUsed: 123 << 20, VolumeTotal: 1 << 30,
		}})
		if err != nil {
			return err
		}
		return tx.SetServiceStatus(ctx, id, s, at)
	})
}

// openOperation returns the row of an instance's open operation.
func (w *world) openOperation(t testing.TB, id string) (store.OperationRow, bool) {
	t.Helper()
	rows, err := w.store.DueOperations(t.Context(), time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC), 10_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.Target == id {
			return r, true
		}
	}
	return store.OperationRow{}, false
}

// finish does what the taskmanager does with the open operation of an instance: it closes it and writes its outcome.
func (w *world) finish(t testing.TB, id string) {
	t.Helper()
	row, open := w.openOperation(t, id)
	if !open {
		return
	}
	now := w.clock.Now()
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error {
		claimed, err := tx.ClaimOperation(ctx, row, "test", now.Add(time.Minute))
		if err != nil {
			return err
		}
		if err := tx.CloseOperation(ctx, claimed, trove.OperationDone, now); err != nil {
			return err
		}
		if row.Kind == trove.OpDelete {
			return tx.DeleteInstance(ctx, id, now)
		}
		return tx.UpdateInstance(ctx, id, now, func(i *trove.Instance) error { return applyOutcome(i, row) })
	})
}

// applyOutcome writes what an operation changes. The recording's clouds resized neither machines nor, until later, volumes.
func applyOutcome(i *trove.Instance, row store.OperationRow) error {
	i.Task = trove.TaskNone
	if row.Kind != trove.OpUpdateAccess {
		return nil
	}
	var in trove.UpdateAccessInput
	if err := json.Unmarshal(row.Input, &in); err != nil {
		return err
	}
	i.Access = in.New
	return nil
}
