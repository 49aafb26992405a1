package api_test

import (
	"context"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/store"
)

// TestOneTimelineOfInstanceAndOperations reads it page by page, of an instance that lives and of the same one deleted.
func TestOneTimelineOfInstanceAndOperations(t *testing.T) {
	w := newWorld(t, nil, nil)
	id, op := w.create(t)
	now := w.clock.Now()
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error {
		if err := tx.AppendOperationLog(ctx, trove.OperationEvent{OperationID: op, At: now.Add(2 * time.Second), Step: "volume", Outcome: "done", Sentence: "b"}); err != nil {
			return err
		}
		failed := trove.InstanceEvent{InstanceID: id, At: now.Add(time.Second), Kind: trove.EventEngineFailed, Sentence: "a", Details: "last words"}
		if err := tx.AppendInstanceEvent(ctx, failed); err != nil {
			return err
		}
		failed.At, failed.Sentence, failed.Kind = now.Add(3*time.Second), "c", trove.EventEngineDown
		if err := tx.CountInstanceEvent(ctx, failed, time.Minute); err != nil {
			return err
		}
		failed.At = now.Add(4 * time.Second)
		return tx.CountInstanceEvent(ctx, failed, time.Minute)
	})
	first := now.Add(3 * time.Second)
	want := []wire.InstanceEvent{
		{At: now.Add(time.Second), Kind: trove.EventEngineFailed, Sentence: "a", Details: "last words", Count: 1},
		{At: now.Add(2 * time.Second), Kind: "operation.done", Sentence: "b", Count: 1, OperationID: op, Operation: trove.OpCreate, Step: "volume"},
		{At: now.Add(4 * time.Second), Kind: trove.EventEngineDown, Sentence: "c", Details: "last words", Count: 2, First: &first},
	}
	for _, deleted := range []bool{false, true} {
		if deleted {
			inTx(t, w.store, func(ctx context.Context, tx store.Tx) error { return tx.DeleteInstance(ctx, id, now) })
		}
		for _, limit := range []string{"1", "2", "20"} {
			var got []wire.InstanceEvent
			for marker, more := "", true; more; {
				var page wire.InstanceEventList
				w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+id+"/events?limit="+limit+"&marker="+url.QueryEscape(marker), "", &page)
				for _, e := range page.Events {
					marker, e.ID = e.ID, ""
					if e.Operation == "" || e.Step != "" { // not what the create wrote itself
						got = append(got, e)
					}
				}
				more = len(page.Links) > 0
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("deleted %t, limit %s: -want +got\n%s", deleted, limit, d)
			}
		}
	}
}

func TestTimelineOfOthers(t *testing.T) {
	w := newWorld(t, nil, nil)
	id, _ := w.create(t)
	path := "/instances/" + id + "/events"
	for _, c := range []struct {
		path string
		want int
	}{
		{path, http.StatusOK},
		{"/instances/" + absentID + "/events", http.StatusNotFound},
		{path + "?marker=x", http.StatusBadRequest},
		{path + "?marker=1-1-../../etc", http.StatusBadRequest},
		{path + "?limit=0", http.StatusBadRequest},
	} {
		if rec := w.ask(t, "member", http.MethodGet, c.path, ""); rec.Code != c.want {
			t.Errorf("%s: %d %s", c.path, rec.Code, rec.Body)
		}
	}
	if rec := w.ask(t, "other", http.MethodGet, path, ""); rec.Code != http.StatusNotFound {
		t.Errorf("another project: %d %s", rec.Code, rec.Body)
	}
}
