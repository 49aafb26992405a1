package sqlstore_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/store/sqlstore"
)

func TestClaims(t *testing.T) {
	everywhere(t, func(t *testing.T, open func() *sqlstore.Store) {
		s, ctx := open(), t.Context()
		later := start.Add(time.Minute)
		for _, step := range []struct {
			owner      string
			now, until time.Time
			has        bool
		}{
			{"a", start, later, true},
			{"b", start, later, false},
			{"a", start, later, true}, // once more, its answer was lost
			{"b", later.Add(-time.Second), later, false},
			{"b", later, later.Add(time.Minute), true},
			{"a", later, later.Add(time.Minute), false},
		} {
			if has, err := s.Claim(ctx, "name", step.owner, step.now, step.until); has != step.has || err != nil {
				t.Errorf("%+v: %v, %v", step, has, err)
			}
		}
		for at, want := range map[time.Time]bool{later: true, later.Add(time.Minute): false} {
			if claimed, err := s.Claimed(ctx, "name", at); claimed != want || err != nil {
				t.Errorf("at %s it is claimed: %v, %v", at, claimed, err)
			}
		}
		if err := s.Unclaim(ctx, "name", "a"); err != nil { // who has it no more
			t.Error(err)
		}
		if has, err := s.Claim(ctx, "name", "c", later, later); has || err != nil {
			t.Errorf("taken from its owner: %v, %v", has, err)
		}
		if err := s.Unclaim(ctx, "name", "b"); err != nil {
			t.Error(err)
		}
		if has, err := s.Claim(ctx, "name", "c", later, later.Add(time.Second)); !has || err != nil {
			t.Errorf("after it was given back: %v, %v", has, err)
		}
		if err := s.PruneClaims(ctx, later.Add(time.Second)); err != nil {
			t.Error(err)
		}
		if has, err := s.Claim(ctx, "name", "d", start, later); !has || err != nil {
			t.Errorf("after the pruning: %v, %v", has, err)
		}
	})
}

// TestClaimsAtOnce lets several ask for a name at the same time: one has it.
func TestClaimsAtOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, open func() *sqlstore.Store) {
		s := open()
		for round := range 5 {
			var all sync.WaitGroup
			var mu sync.Mutex
			won := 0
			for n := range 6 {
				all.Go(func() {
					has, err := s.Claim(t.Context(), fmt.Sprint("name ", round), fmt.Sprint(n), start, start.Add(time.Minute))
					if err != nil {
						t.Error(err)
					}
					mu.Lock()
					defer mu.Unlock()
					if has {
						won++
					}
				})
			}
			all.Wait()
			if won != 1 {
				t.Errorf("%d have the name", won)
			}
		}
	})
}
