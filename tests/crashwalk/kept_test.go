package crashwalk_test

import (
	"database/sql"
	"fmt"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
	"github.com/trove-dbaas/trove/tests/boundaries"
	deploy "github.com/trove-dbaas/trove/tests/deployment"
)

// asks are how the operations on a living instance are asked for, so that each call is a change.
var asks = map[string]func(w *walker, i wire.Instance) error{
	trove.OpRestart: func(w *walker, i wire.Instance) error { return w.Client.RestartInstance(w.t.Context(), i.ID) },
	trove.OpStop:    func(w *walker, i wire.Instance) error { return w.Client.StopInstance(w.t.Context(), i.ID) },
	trove.OpStart:   func(w *walker, i wire.Instance) error { return w.Client.StartInstance(w.t.Context(), i.ID) },
	trove.OpResizeFlavor: func(w *walker, i wire.Instance) error {
		other := map[string]string{"1": "2", "2": "1"}[i.Flavor.ID]
		return w.Client.ResizeFlavor(w.t.Context(), i.ID, other)
	},
	trove.OpResizeVolume: func(w *walker, i wire.Instance) error {
		return w.Client.ResizeVolume(w.t.Context(), i.ID, i.Volume.Size+1)
	},
	trove.OpReboot: func(w *walker, i wire.Instance) error { return w.admin().RebootInstance(w.t.Context(), i.ID) },
	trove.OpRebuild: func(w *walker, i wire.Instance) error {
		d, err := w.admin().Datastore(w.t.Context(), *i.Datastore.Type)
		if err != nil {
			return err
		}
		n := slices.IndexFunc(d.Versions, func(v wire.DatastoreVersion) bool { return v.Name == *i.Datastore.Version })
		return w.admin().RebuildInstance(w.t.Context(), i.ID, *d.Versions[n].Image)
	},
	trove.OpStopEngine: func(w *walker, i wire.Instance) error {
		if i.OperatingStatus == "SHUTDOWN" { // stopped by the leg before: a stop shall be a change
			if err := w.Client.RestartInstance(w.t.Context(), i.ID); err != nil {
				return err
			}
			deploy.Eventually(w.t, limit, "the database to be up", func() bool { return w.Instance(i.ID).OperatingStatus == "HEALTHY" })
		}
		return w.admin().StopEngine(w.t.Context(), i.ID)
	},
	trove.OpUpdateAccess: func(w *walker, i wire.Instance) error {
		cidrs := []string{"0.0.0.0/0"}
		if slices.Equal(i.Access.AllowedCIDRs, cidrs) {
			cidrs = []string{"0.0.0.0/1", "128.0.0.0/1"}
		}
		return w.Client.UpdateInstance(w.t.Context(), i.ID, wire.InstanceUpdate{Access: &wire.AccessRequest{AllowedCIDRs: &cidrs}})
	},
	trove.OpUpgrade: func(w *walker, i wire.Instance) error {
		return w.Client.UpgradeInstance(w.t.Context(), i.ID, newVersion)
	},
	trove.OpUpgradeRollback: func(w *walker, i wire.Instance) error { return w.Client.RollbackUpgrade(w.t.Context(), i.ID) },
	trove.OpUpgradeConfirm:  func(w *walker, i wire.Instance) error { return w.Client.ConfirmUpgrade(w.t.Context(), i.ID) },
}

// admin asks for what only administrators may.
func (w *walker) admin() *client.Client {
	w.t.Helper()
	c, err := w.Admin()
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// elsewhere are operations that this walk cannot ask for, and where they are killed instead.
var elsewhere = map[string]string{
	trove.OpMigrate:      "needs a second host, which the local cloud does not have: TestCrashWalk of taskmanager",
	trove.OpUpgradeAgent: "needs signed releases of the agent: TestAgentUpgradeWithoutTheControlPlane of tests/e2e",
}

// leg is one crash in an operation on a living instance.
type leg struct {
	kind, at, fail string
	ask            func(*walker, wire.Instance) error
}

// legs are the crashes of a kind: those of the operation that is finished, then those of the one that is undone.
func legs(steps boundaries.Steps) []leg {
	var all []leg
	for _, at := range steps.Forwards(waiting) {
		all = append(all, leg{kind: steps.Kind, at: at, ask: asks[steps.Kind]})
	}
	for _, at := range steps.Backwards() {
		all = append(all, leg{kind: steps.Kind, at: at, ask: asks[steps.Kind], fail: "fail " + steps.Last() + "\n"})
	}
	return all
}

// walkKept meets every boundary of the other operations on one instance, whose rows outlive them all.
func (w *walker) walkKept(steps map[string]boundaries.Steps, kinds []string) {
	w.t.Helper()
	i := w.CreateKept("walk-kept")
	db := deploy.Open(w.t, i, "app", deploy.Password, "app")
	if _, err := db.ExecContext(w.t.Context(), "CREATE TABLE kept (n INT PRIMARY KEY)"); err != nil {
		w.t.Fatal(err)
	}
	rows := 0
	there := w.look()
	for _, l := range w.allLegs(steps, kinds) {
		w.kept(i.ID, l)
		if now := w.Instance(i.ID); now.Status == "ACTIVE" && now.OperatingStatus != "SHUTDOWN" {
			rows = w.insert(l.at, db, rows)
			w.sameOnHost(l.at, there)
		}
	}
	w.quotas("operations on one instance")
	w.rows("operations on one instance")
	w.Remove(i.ID)
}

// allLegs puts the crashes in order: stops and starts by turns.
func (w *walker) allLegs(steps map[string]boundaries.Steps, kinds []string) []leg {
	var all []leg
	for _, kind := range kinds {
		switch {
		case kind == trove.OpCreate, kind == trove.OpDelete, kind == trove.OpStart, elsewhere[kind] != "", slices.Contains(ofUpgrades, kind):
		case asks[kind] == nil:
			w.t.Errorf("there is an operation %s, and nothing here says how it is asked for", kind)
		case kind == trove.OpStop:
			stops, starts := legs(steps[kind]), legs(steps[trove.OpStart])
			for len(stops)+len(starts) > 0 {
				n, m := min(1, len(stops)), min(1, len(starts))
				all = append(append(all, stops[:n]...), starts[:m]...)
				stops, starts = stops[n:], starts[m:]
			}
		default:
			all = append(all, legs(steps[kind])...)
		}
	}
	return all
}

// kept meets one crash and checks how the operation ended.
func (w *walker) kept(id string, l leg) {
	w.t.Helper()
	before := map[bool]string{true: "SHUTDOWN", false: "ACTIVE"}[l.kind == trove.OpStart]
	after := map[string]string{trove.OpStop: "SHUTDOWN"}[l.kind]
	if after == "" {
		after = "ACTIVE"
	}
	want := "done"
	if l.fail != "" {
		want, after = "undone", before
	}
	i := w.Instance(id)
	if i.Status != before { // as the leg before left it
		if err := asks[map[string]string{"ACTIVE": trove.OpStart, "SHUTDOWN": trove.OpStop}[before]](w, i); err != nil {
			w.t.Fatal(err)
		}
		deploy.Eventually(w.t, limit, "the instance to be "+before, func() bool { i = w.Instance(id); return i.Status == before })
	}
	w.die("crash "+l.at+"\n"+l.fail, func() error { return l.ask(w, i) })
	op := w.ends(id, l.kind)
	if i = w.Instance(id); op.State != want || i.Status != after {
		w.t.Fatalf("%s: the operation ended %s (%s), the instance is %s; its fault is %+v", l.at, op.State, op.Error, i.Status, i.Fault)
	}
}

// insert writes one more row, as soon as the database lets it, and checks that all rows are there.
func (w *walker) insert(at string, db *sql.DB, rows int) int {
	w.t.Helper()
	deploy.Eventually(w.t, limit, at+": the database to take a row", func() bool {
		_, err := db.ExecContext(w.t.Context(), fmt.Sprintf("REPLACE INTO kept VALUES (%d)", rows))
		return err == nil
	})
	rows++
	var n int
	if err := db.QueryRowContext(w.t.Context(), "SELECT COUNT(*) FROM kept").Scan(&n); err != nil || n != rows {
		w.t.Errorf("%s: %d of %d rows are there: %v", at, n, rows, err)
	}
	return rows
}

// serves checks that a new instance is one.
func (w *walker) serves(at, id string) {
	w.t.Helper()
	db := deploy.Open(w.t, w.Instance(id), "app", deploy.Password, "app")
	defer func() { _ = db.Close() }()
	if err := db.PingContext(w.t.Context()); err != nil {
		w.t.Errorf("%s: the instance is ACTIVE and does not serve: %v", at, err)
	}
}
