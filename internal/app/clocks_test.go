package app_test

import (
	"testing"
	"time"

	"github.com/trove-dbaas/trove/internal/app"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/tests/dbserver"
)

// TestAClockThatIsWrongStopsTheTaskmanager moves the clock of a host against those of real servers, and of a store that is a file.
func TestAClockThatIsWrongStopsTheTaskmanager(t *testing.T) {
	for _, kind := range dbserver.Kinds {
		t.Run(kind, func(t *testing.T) {
			st, err := sqlstore.Open(t.Context(), sqlstore.Config{Server: dbserver.Shared(t, kind).Database(t)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = st.Close() })
			cfg := config.Default()
			cfg.Store.URL = "a server"
			for ahead, stops := range map[time.Duration]bool{0: false, -3 * time.Second: false, 6 * time.Second: true, -6 * time.Second: true} {
				w, err := app.OpenClocks(t.Context(), cfg, st, moved(ahead))
				if err != nil || w.Stopped() != stops || (w.Ahead()-ahead).Abs() > time.Second {
					t.Errorf("moved by %s: stopped %v, ahead %s, %v", ahead, w.Stopped(), w.Ahead(), err)
				}
			}
		})
	}
	d := newDeployment(t)
	if w, err := app.OpenClocks(t.Context(), d.cfg, d.store, moved(time.Hour)); err != nil || w.Stopped() {
		t.Errorf("a store that is a file has no other clock: %v, %v", w.Ahead(), err)
	}
}

// moved is the machine's clock, set wrong.
type moved time.Duration

func (m moved) Now() time.Time { return clock.System{}.Now().Add(time.Duration(m)) }

// TestClocksAreShown looks at what an operator sees of a controller whose clock is wrong.
func TestClocksAreShown(t *testing.T) {
	d := newDeployment(t)
	at := clock.System{}.Now()
	for id, ahead := range map[string]time.Duration{"good": 0, "bad": -7 * time.Second} {
		if err := d.store.PutController(t.Context(), sqlstore.Controller{ID: id, Host: "h", Clients: []string{"x:1"}, SeenAt: at, ClockAhead: ahead}); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.store.PutController(t.Context(), sqlstore.Controller{ID: "gone", SeenAt: at.Add(-time.Hour), ClockAhead: time.Hour}); err != nil {
		t.Fatal(err)
	}
	all, err := app.Controllers(t.Context(), d.cfg)
	if err != nil || len(all) != 3 {
		t.Fatalf("%+v, %v", all, err)
	}
	const sentence = "The clock of the host is 7s behind the database's: it takes no operations until the clock is set right."
	if all[0].Name != "bad" || all[0].State != sentence || all[0].Clock != "-7.0s" || all[1].State != "not heard of lately" || all[2].State != "up" {
		t.Errorf("%+v", all)
	}
	checks, err := app.UpgradeCheck(t.Context(), d.cfg)
	if err != nil {
		t.Fatal(err)
	}
	last := checks[len(checks)-1]
	if last.Level != app.CheckWarning || last.Detail != "bad: "+sentence {
		t.Errorf("the check says %+v", last)
	}
}
