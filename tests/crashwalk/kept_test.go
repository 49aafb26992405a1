package crashwalk_test

import (
	"database/sql"
	"fmt"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	deploy "github.com/trove-dbaas/trove/tests/deployment"
)

// asks are how the operations on a living instance are asked for, so that each call is a change.
var asks = map[string]func(w *walker, i wire.Instance) error{
	trove.OpRestart: func(w *walker, i wire.Instance) error { return w.Client.RestartInstance(w.t.Context(), i.ID) },
	trove.OpResizeFlavor: func(w *walker, i wire.Instance) error {
		other := map[string]string{"1": "2", "2": "1"}[i.Flavor.ID]
		return w.Client.ResizeFlavor(w.t.Context(), i.ID, other)
	},
	trove.OpResizeVolume: func(w *walker, i wire.Instance) error {
		return w.Client.ResizeVolume(w.t.Context(), i.ID, i.Volume.Size+1)
	},
	trove.OpUpdateAccess: func(w *walker, i wire.Instance) error {
		cidrs := []string{"0.0.0.0/0"}
		if slices.Equal(i.Access.AllowedCIDRs, cidrs) {
			cidrs = []string{"0.0.0.0/1", "128.0.0.0/1"}
		}
		return w.Client.UpdateInstance(w.t.Context(), i.ID, wire.InstanceUpdate{Access: &wire.AccessRequest{AllowedCIDRs: &cidrs}})
	},
}

// walkKept meets every boundary of the other operations on one instance, whose rows outlive them all.
func (w *walker) walkKept(steps map[string][]step, kinds []string) {
	w.t.Helper()
	i := w.CreateKept("walk-kept")
	db := deploy.Open(w.t, i, "app", deploy.Password, "app")
	if _, err := db.ExecContext(w.t.Context(), "CREATE TABLE kept (n INT PRIMARY KEY)"); err != nil {
		w.t.Fatal(err)
	}
	rows := 0
	there := w.look()
	for _, kind := range kinds {
		ask := asks[kind]
		if kind == trove.OpCreate || kind == trove.OpDelete {
			continue
		}
		if ask == nil {
			w.t.Errorf("there is an operation %s, and nothing here says how it is asked for", kind)
			continue
		}
		last := steps[kind][len(steps[kind])-1].name
		for _, at := range forwards(kind, steps[kind]) {
			w.kept(i.ID, kind, at, "", "done", ask)
			rows = w.insert(at, db, rows)
			w.sameOnHost(at, there)
		}
		for _, at := range backwards(kind, steps[kind]) {
			w.kept(i.ID, kind, at, "fail "+kind+"/"+last+"\n", "undone", ask)
			rows = w.insert(at, db, rows)
			w.sameOnHost(at, there)
		}
	}
	w.quotas("operations on one instance")
	w.rows("operations on one instance")
	w.Remove(i.ID)
}

func (w *walker) kept(id, kind, at, fail, want string, ask func(*walker, wire.Instance) error) {
	w.t.Helper()
	i := w.Instance(id)
	w.die("crash "+at+"\n"+fail, func() error { return ask(w, i) })
	op := w.ends(id, kind)
	if i = w.Instance(id); op.State != want || i.Status != "ACTIVE" {
		w.t.Errorf("%s: the operation ended %s (%s), the instance is %s; its fault is %+v", at, op.State, op.Error, i.Status, i.Fault)
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
	defer db.Close()
	if err := db.PingContext(w.t.Context()); err != nil {
		w.t.Errorf("%s: the instance is ACTIVE and does not serve: %v", at, err)
	}
}
