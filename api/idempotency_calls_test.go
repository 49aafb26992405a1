package api_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trove-dbaas/trove/api"
)

// TestEveryCallThatMakesSomething sends the first example of each of them. Without a key the effect and its record are one commit; with a key there is
// the claim before it, and the same call once more gives the same answer and changes no row.
func TestEveryCallThatMakesSomething(t *testing.T) {
	n := 0
	for _, op := range api.Operations() {
		if !op.Creates || slices.Contains(neverGood, op.ID) {
			continue
		}
		n++
		t.Run(op.ID, func(t *testing.T) {
			all, err := api.Examples(op.ID)
			if err != nil || len(all) == 0 {
				t.Fatalf("no example: %v", err)
			}
			e := all[0]
			for _, key := range []string{"", "k"} {
				w, db := openWorld(t)
				w.stage(t)
				counted := &countingStore{Store: w.store}
				cfg := w.config
				cfg.Store = counted
				h, err := api.New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				path, body := e.Path, string(e.Request)
				for name, value := range staged {
					path = strings.ReplaceAll(path, name, value)
				}
				if key == "" {
					w.handler = h
					w.must(t, op.Success, e.As, http.MethodPost, path, body, nil)
					if n := counted.n.Load(); n != 1 {
						t.Errorf("%d commits without a key", n)
					}
					continue
				}
				first := keyed(t, h, e.As, key, path, body)
				want := int64(2) // the claim, and the effect with the answer
				if op.ID == "createDatabases" || op.ID == "createUsers" {
					want = 3 // that it begins, too: the effect is in the guest
				}
				if n := counted.n.Load(); first.Code != op.Success || n != want {
					t.Errorf("%d commits with a key: %d %s", n, first.Code, first.Body)
				}
				w.clock.Add(time.Second)
				before := contents(t, db)
				sameAnswer(t, first, keyed(t, h, e.As, key, path, body))
				if d := cmp.Diff(before, contents(t, db)); d != "" {
					t.Errorf("the second call changed rows: %s", d)
				}
			}
		})
	}
	if n < 10 {
		t.Errorf("only %d calls make something", n)
	}
}
