package openstack_test

import (
	"database/sql"
	"path/filepath"

	"github.com/trove-dbaas/trove/api/wire"
)

// strays are rows of the service's store that belong to nothing when no operation runs.
var strays = map[string]string{
	"open operations":                `SELECT COUNT(*) FROM operation WHERE state='open' OR owner<>''`,
	"locks":                          `SELECT COUNT(*) FROM operation_lock`,
	"states of guests that are gone": `SELECT COUNT(*) FROM guest_state WHERE instance_id NOT IN (SELECT id FROM instance WHERE deleted=0)`,
	"guests that are gone":           `SELECT COUNT(*) FROM guest WHERE instance_id NOT IN (SELECT id FROM instance WHERE deleted=0)`,
	"reports of those":               `SELECT COUNT(*) FROM report WHERE instance_id NOT IN (SELECT id FROM instance WHERE deleted=0)`,
	"operations without a timeline":  `SELECT COUNT(*) FROM operation WHERE id NOT IN (SELECT operation_id FROM operation_log)`,
}

// books checks what the service keeps for itself: the quota in use is that of the instances that have something, and its store has nothing without an owner.
func (w *walker) books(at string, instances ...wire.Instance) bool {
	w.t.Helper()
	good := true
	want := map[string]int{}
	for _, i := range instances {
		want["instances"]++
		want["volumes"] += i.Volume.Size
		want["ram"] += w.ram(i)
	}
	quotas, err := w.client.Quotas(w.t.Context(), w.lab().Project("demo"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, q := range quotas {
		if q.InUse != want[q.Resource] || q.Reserved != 0 {
			w.t.Errorf("%s: quota of %s: %d are in use, the instances have %d; %d are reserved", at, q.Resource, q.InUse, want[q.Resource], q.Reserved)
			good = false
		}
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(w.service.dir, "store.db")+"?_pragma=query_only(1)&_pragma=busy_timeout(5000)")
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for what, query := range strays {
		var n int
		if err := db.QueryRowContext(w.t.Context(), query).Scan(&n); err != nil {
			w.t.Fatalf("%s: %v", what, err)
		}
		if n > 0 {
			w.t.Errorf("%s: the store has %d %s", at, n, what)
			good = false
		}
	}
	return good
}
