package sqlstore_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/store/storetest"
)

// TestKeyMaterialIsSwapped has several processes make and change the same key.
func TestKeyMaterialIsSwapped(t *testing.T) {
	everywhere(t, func(t *testing.T, open func() *sqlstore.Store) {
		s := open()
		race := func(old string, texts ...string) string {
			t.Helper()
			var wg sync.WaitGroup
			var won atomic.Int32
			var winner atomic.Pointer[string]
			for _, text := range texts {
				wg.Go(func() {
					done, err := s.SwapKeyMaterial(t.Context(), "k", old, text)
					if err != nil {
						t.Error(err)
					}
					if done {
						won.Add(1)
						winner.Store(&text)
					}
				})
			}
			wg.Wait()
			if won.Load() != 1 {
				t.Fatalf("%d were written", won.Load())
			}
			return *winner.Load()
		}
		first := race("", "a", "b", "c", "d")
		second := race(first, "e", "f", "g", "h")
		all, err := s.KeyMaterial(t.Context())
		if d := cmp.Diff(map[string]string{"k": second}, all); d != "" || err != nil {
			t.Error(err, d)
		}
	})
}

func TestTheDatabaseTellsTheTime(t *testing.T) {
	everywhere(t, func(t *testing.T, open func() *sqlstore.Store) {
		s := open()
		before := clock.System{}.Now()
		at, err := s.Now(t.Context())
		if after := (clock.System{}).Now(); err != nil || at.Before(before.Add(-time.Second)) || at.After(after.Add(time.Second)) {
			t.Errorf("it is %v between %v and %v, %v", at, before, after, err)
		}
	})
}

func TestAControllerIsKeptAsItSays(t *testing.T) {
	everywhere(t, func(t *testing.T, open func() *sqlstore.Store) {
		s := open()
		want := sqlstore.Controller{
			ID: "a", RouteURL: "tls://a:1", Clients: []string{"a:2"}, Enrol: []string{"https://a:3"}, SeenAt: storetest.Start,
			Objects: []string{"https://a:4"}, Control: "b:2", Host: "a", ClockAhead: -1500 * time.Millisecond,
		}
		for range 2 { // inserted, then replaced
			if err := s.PutController(t.Context(), want); err != nil {
				t.Fatal(err)
			}
			got, err := s.Controllers(t.Context())
			if d := cmp.Diff([]sqlstore.Controller{want}, got); d != "" || err != nil {
				t.Error(err, d)
			}
			want.ClockAhead, want.Objects = time.Minute, []string{"https://a:5"}
		}
	})
}

// TestTheCloudHasOneMachine claims it from two, moves it, and restores.
func TestTheCloudHasOneMachine(t *testing.T) {
	everywhere(t, func(t *testing.T, open func() *sqlstore.Store) {
		s := open()
		if machine, name, err := s.CloudMachine(t.Context()); machine != "" || name != "" || err != nil {
			t.Errorf("before: %q %q, %v", machine, name, err)
		}
		for _, step := range []struct {
			machine string
			force   bool
			other   string
		}{
			{"1", false, ""}, {"1", false, ""}, {"2", false, "host 1"}, {"2", true, ""}, {"1", false, "host 2"}, {"2", false, ""},
		} {
			other, err := s.ClaimCloud(t.Context(), step.machine, "host "+step.machine, step.force)
			if other != step.other || err != nil {
				t.Errorf("%+v: %q, %v", step, other, err)
			}
		}
		if machine, name, err := s.CloudMachine(t.Context()); machine != "2" || name != "host 2" || err != nil {
			t.Errorf("it is on %q %q, %v", machine, name, err)
		}
		if _, err := s.AfterRestore(t.Context(), "restored", storetest.Start); err != nil {
			t.Fatal(err)
		}
		if other, err := s.ClaimCloud(t.Context(), "3", "host 3", false); other != "" || err != nil {
			t.Errorf("after a restore: %q, %v", other, err)
		}
	})
}
