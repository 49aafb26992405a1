package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/store/storetest"
)

// TestTwoProcessesNeverRunAStepTwice lets the workers of two processes take the same operations through their steps.
func TestTwoProcessesNeverRunAStepTwice(t *testing.T) {
	const operations, steps = 60, 3
	everywhere(t, func(t *testing.T, open func() *sqlstore.Store) {
		stores := []*sqlstore.Store{open(), open()}
		now := storetest.Start
		for n := range operations {
			change(t, stores[n%2], func(ctx context.Context, tx store.Tx) error {
				return tx.EnqueueOperation(ctx, store.OperationRow{Operation: trove.Operation{
					ID: fmt.Sprintf("op-%d", n), Kind: "k", Target: fmt.Sprintf("i-%d", n), Created: now, Updated: now, Deadline: now.Add(time.Hour), Steps: steps,
				}, WakeAt: now})
			})
		}
		var mu sync.Mutex
		ran := map[string]int{}
		var wg sync.WaitGroup
		for w := range 6 {
			wg.Go(func() {
				s, owner := stores[w%2], fmt.Sprintf("w-%d", w)
				for {
					due, err := s.DueOperations(t.Context(), now, 16)
					if err != nil {
						t.Errorf("due: %v", err)
					}
					if err != nil || len(due) == 0 {
						return
					}
					row := due[w%len(due)]
					if err := oneStep(t.Context(), s, row, owner, now, func(step int) {
						mu.Lock()
						defer mu.Unlock()
						ran[fmt.Sprint(row.ID, " ", step)]++
					}); err != nil && !errors.Is(err, store.ErrLost) {
						t.Errorf("%s: %v", owner, err)
						return
					}
				}
			})
		}
		wg.Wait()
		for step, times := range ran {
			if times != 1 {
				t.Errorf("step %s ran %d times", step, times)
			}
		}
		if n, err := stores[0].CountOpenOperations(t.Context()); len(ran) != operations*steps || n != 0 || err != nil {
			t.Errorf("%d steps ran, want %d; %d operations are open, %v", len(ran), operations*steps, n, err)
		}
	})
}

// oneStep claims a row, runs its step and gives it back, or closes it after the last one.
func oneStep(ctx context.Context, s *sqlstore.Store, row store.OperationRow, owner string, now time.Time, run func(step int)) error {
	err := s.InTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		row, err = tx.ClaimOperation(ctx, row, owner, now.Add(10*time.Second))
		return err
	})
	if err != nil {
		return err
	}
	run(row.StepNo)
	return s.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		next := row
		next.StepNo++
		next.Owner, next.WakeAt = "", now
		if err := tx.AppendOperationLog(ctx, trove.OperationEvent{OperationID: row.ID, At: now, Step: fmt.Sprint(row.StepNo), Outcome: "done"}); err != nil {
			return err
		}
		if next.StepNo == row.Steps {
			return tx.CloseOperation(ctx, next, trove.OperationDone, now)
		}
		_, err := tx.SaveOperation(ctx, next, now)
		return err
	})
}

// TestQuotaHoldsOverProcesses lets two processes create instances of a project that has no row of quotas yet.
func TestQuotaHoldsOverProcesses(t *testing.T) {
	everywhere(t, func(t *testing.T, open func() *sqlstore.Store) {
		stores := []*sqlstore.Store{open(), open()}
		var wg sync.WaitGroup
		var mu sync.Mutex
		created, refused := 0, 0
		for w := range 8 {
			wg.Go(func() {
				for range 4 {
					i := storetest.Instance("p")
					err := stores[w%2].InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
						if err := tx.TakeQuota(ctx, "p", map[string]int{trove.QuotaInstances: 1, trove.QuotaVolumes: 1}); err != nil {
							return err
						}
						return tx.InsertInstance(ctx, i)
					})
					mu.Lock()
					switch {
					case err == nil:
						created++
					case trove.KindOf(err) == trove.KindOverLimit:
						refused++
					default:
						t.Errorf("create: %v", err)
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		all, err := stores[0].Instances(t.Context(), store.InstanceFilter{ProjectID: "p"})
		if err != nil || created != 10 || refused != 22 || len(all) != 10 {
			t.Errorf("%d created, %d refused, %d there, %v: want 10, 22, 10", created, refused, len(all), err)
		}
		got, err := stores[1].Quotas(t.Context(), "p")
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range got {
			if want := map[string]int{trove.QuotaInstances: 10, trove.QuotaVolumes: 10}[q.Resource]; q.InUse != want {
				t.Errorf("%s: %d in use, want %d", q.Resource, q.InUse, want)
			}
		}
	})
}

// TestWhatOneProcessWritesTheOtherReads: decoded instances are kept in each process.
func TestWhatOneProcessWritesTheOtherReads(t *testing.T) {
	everywhere(t, func(t *testing.T, open func() *sqlstore.Store) {
		a, b := open(), open()
		i := storetest.Instance("p")
		change(t, a, func(ctx context.Context, tx store.Tx) error { return tx.InsertInstance(ctx, i) })
		for n := range 20 {
			name := fmt.Sprintf("name %d", n)
			change(t, a, func(ctx context.Context, tx store.Tx) error {
				return tx.UpdateInstance(ctx, i.ID, storetest.Start, func(i *trove.Instance) error { i.Name = name; return nil })
			})
			for range 2 { // decoded, then kept
				if got, err := b.Instance(t.Context(), i.ID); err != nil || got.Name != name {
					t.Fatalf("the other process reads %q, %v, want %q", got.Name, err, name)
				}
			}
		}
	})
}

// TestManyWriteOneTimeline: each line gets a number that no other has, whoever writes at the same time.
func TestManyWriteOneTimeline(t *testing.T) {
	everywhere(t, func(t *testing.T, open func() *sqlstore.Store) {
		stores := []*sqlstore.Store{open(), open()}
		var wg sync.WaitGroup
		for w := range 6 {
			wg.Go(func() {
				for n := range 5 {
					write := func() error {
						return stores[w%2].InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
							return tx.AppendInstanceEvent(ctx, trove.InstanceEvent{InstanceID: "i", At: storetest.Start, Kind: "k", Sentence: fmt.Sprint(w, n)})
						})
					}
					err := write()
					for tries := 0; err != nil && tries < 100; tries++ { // on a busy machine too many may meet
						err = write()
					}
					if err != nil {
						t.Errorf("append: %v", err)
					}
				}
			})
		}
		wg.Wait()
		got, err := stores[0].InstanceEvents(t.Context(), "i", 0, 0)
		if err != nil || len(got) != 30 || got[29].Seq != 30 {
			t.Errorf("%d lines, %v", len(got), err)
		}
	})
}

// TestWhatIsThereAlreadyIsNotTriedForLong: an insert that meets a row of its own key is not a race when it happens again and again.
func TestWhatIsThereAlreadyIsNotTriedForLong(t *testing.T) {
	onServers(t, func(t *testing.T, server *sqlstore.Server) {
		s := open(t, sqlstore.Config{Server: server})
		put := func(id string) (runs int, err error) {
			err = s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
				runs++
				return tx.PutDatastore(ctx, trove.Datastore{ID: id, Name: "the same"})
			})
			return runs, err
		}
		if runs, err := put("a"); runs != 1 || err != nil {
			t.Fatal(runs, err)
		}
		if runs, err := put("b"); runs != 3 || err == nil {
			t.Errorf("%d runs, %v", runs, err)
		}
	})
}

// TestALostRaceIsNoFaultOfTheDatabase: another row was in the way each time, until there were no tries left.
func TestALostRaceIsNoFaultOfTheDatabase(t *testing.T) {
	onServers(t, func(t *testing.T, server *sqlstore.Server) {
		s := open(t, sqlstore.Config{Server: server})
		const many = 20
		for n := range many {
			put := func(ctx context.Context, tx store.Tx) error {
				return tx.PutDatastore(ctx, trove.Datastore{ID: fmt.Sprint("a", n), Name: fmt.Sprint("the same ", n)})
			}
			if err := s.InTx(t.Context(), put); err != nil {
				t.Fatal(err)
			}
		}
		runs := 0
		err := s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
			runs++
			return tx.PutDatastore(ctx, trove.Datastore{ID: "b", Name: fmt.Sprint("the same ", runs%many)})
		})
		if runs != 10 || trove.KindOf(err) != trove.KindUnavailable {
			t.Errorf("%d runs, %v", runs, err)
		}
	})
}

// TestWhatADatabaseCannotKeepIsTheCallersFault: a text that is too long or holds what is no character.
func TestWhatADatabaseCannotKeepIsTheCallersFault(t *testing.T) {
	onServers(t, func(t *testing.T, server *sqlstore.Server) {
		s := open(t, sqlstore.Config{Server: server})
		for name, text := range map[string]string{"long": string(make([]rune, 300)), "no UTF-8": "a\xff\xfeb"} {
			i := storetest.Instance("p")
			i.Name = text
			err := s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error { return tx.InsertInstance(ctx, i) })
			if trove.KindOf(err) != trove.KindBadRequest {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// TestOrderAndEqualityAreThoseOfBytes: no database folds case, accents or blanks at the end.
func TestOrderAndEqualityAreThoseOfBytes(t *testing.T) {
	everywhere(t, func(t *testing.T, open func() *sqlstore.Store) {
		s := open()
		ids := []string{"A", "B", "a", "a ", "b", "ä"}
		for _, id := range ids {
			i := storetest.Instance("p")
			i.ID, i.Name = id, id
			change(t, s, func(ctx context.Context, tx store.Tx) error { return tx.InsertInstance(ctx, i) })
		}
		all, err := s.Instances(t.Context(), store.InstanceFilter{ProjectID: "p", Limit: 10})
		var got []string
		for _, i := range all {
			got = append(got, i.ID)
		}
		if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", ids) || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, ids)
		}
		for _, id := range ids {
			if found, err := s.Instances(t.Context(), store.InstanceFilter{Name: id}); len(found) != 1 || err != nil {
				t.Errorf("%d have the name %q, %v", len(found), id, err)
			}
		}
	})
}
