package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/store"
)

// keyed sends a request with an Idempotency-Key.
func keyed(t testing.TB, h http.Handler, token, key, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://trove.example:8779/v1.0/"+tokens[token].ProjectID+path, strings.NewReader(body))
	req.Header.Set("X-Auth-Token", token)
	req.Header.Set(wire.HeaderIdempotencyKey, key)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return rec
}

func (w *world) instances(t testing.TB) []trove.Instance {
	t.Helper()
	all, err := w.store.Instances(t.Context(), store.InstanceFilter{ProjectID: project})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// sameAnswer checks that the second answer is the first one once more.
func sameAnswer(t *testing.T, first, second *httptest.ResponseRecorder) {
	t.Helper()
	if second.Code != first.Code || second.Body.String() != first.Body.String() || second.Header().Get(wire.HeaderReplayed) != "true" ||
		second.Header().Get(wire.HeaderOperation) != first.Header().Get(wire.HeaderOperation) || first.Header().Get(wire.HeaderReplayed) != "" ||
		second.Header().Get("Content-Type") != first.Header().Get("Content-Type") {
		t.Errorf("first: %d %v %s\nsecond: %d %v %s", first.Code, first.Header(), first.Body, second.Code, second.Header(), second.Body)
	}
}

func TestSameKeyGivesTheSameAnswer(t *testing.T) {
	w := newWorld(t, nil, nil)
	first := keyed(t, w.handler, "member", "k", "/instances", minimalCreate)
	if first.Code != http.StatusOK {
		t.Fatalf("%d %s", first.Code, first.Body)
	}
	w.clock.Add(23 * time.Hour)
	// Whoever asks, and however the body is written.
	sameAnswer(t, first, keyed(t, w.handler, "admin", "k", "/instances", strings.ReplaceAll(minimalCreate, ",", " , ")))
	if n := len(w.instances(t)); n != 1 {
		t.Errorf("%d instances", n)
	}
	if keyed(t, w.handler, "other", "k", "/instances", strings.Replace(minimalCreate, "db", "theirs", 1)).Code != http.StatusOK {
		t.Error("another project's key counted")
	}
	w.clock.Add(time.Hour)
	if again := keyed(t, w.handler, "member", "k", "/instances", minimalCreate); again.Code != http.StatusOK || again.Header().Get(wire.HeaderReplayed) != "" {
		t.Errorf("after a day: %d %v", again.Code, again.Header())
	}
	if n := len(w.instances(t)); n != 2 {
		t.Errorf("%d instances after a day", n)
	}
}

func TestTwoCreatesWithoutKeyBothSucceed(t *testing.T) {
	w := newWorld(t, nil, nil)
	for range 2 {
		w.must(t, http.StatusOK, "member", http.MethodPost, "/instances", minimalCreate, nil)
	}
	if n := len(w.instances(t)); n != 2 {
		t.Errorf("%d instances", n)
	}
}

func TestKeyForAnotherRequestIsRefused(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.addLab(t)
	if rec := keyed(t, w.handler, "member", "k", "/instances", minimalCreate); rec.Code != http.StatusOK {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	for path, body := range map[string]string{
		"/instances":                         strings.Replace(minimalCreate, `"db"`, `"other"`, 1),
		"/instances/" + labID + "/databases": `{"databases":[{"name":"ab"}]}`,
	} {
		rec := keyed(t, w.handler, "member", "k", path, body)
		if rec.Code != http.StatusUnprocessableEntity || !strings.HasPrefix(message(t, rec), "This Idempotency-Key was given for another request") {
			t.Errorf("%s: %d %s", path, rec.Code, rec.Body)
		}
	}
	for _, key := range []string{"a b", strings.Repeat("k", 256), "ü"} {
		if rec := keyed(t, w.handler, "member", key, "/instances", minimalCreate); rec.Code != http.StatusBadRequest {
			t.Errorf("key %q: %d %s", key, rec.Code, rec.Body)
		}
	}
}

// A call that was refused has done nothing: its key can be used again, also with another body.
func TestRefusedCallGivesItsKeyBack(t *testing.T) {
	w := newWorld(t, map[string]int{trove.QuotaInstances: 0}, nil)
	if rec := keyed(t, w.handler, "member", "k", "/instances", minimalCreate); rec.Code != http.StatusRequestEntityTooLarge {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error {
		return tx.SetQuota(ctx, project, trove.QuotaInstances, 1)
	})
	if rec := keyed(t, w.handler, "member", "k", "/instances", strings.Replace(minimalCreate, "3", "4", 1)); rec.Code != http.StatusOK {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

func TestRunningCallIsAConflict(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.addLab(t)
	w.guests.block = make(chan struct{})
	const path, body = "/instances/" + labID + "/databases", `{"databases":[{"name":"ab"}]}`
	first := make(chan *httptest.ResponseRecorder)
	go func() {
		for {
			if a := keyed(t, w.handler, "member", "k", path, body); a.Code != http.StatusConflict { // the other one may have the key now and then
				first <- a
				return
			}
		}
	}()
	var second *httptest.ResponseRecorder
	limit := 20 * time.Millisecond                                                    // it may be this one that has the key, and waits for the guest
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) { //nolint:forbidigo // until the first one has the key
		second = keyed(t, httpTimeout(w.handler, limit), "member", "k", path, body)
		limit = min(2*limit, 5*time.Second) // on a busy machine a refusal takes its time
		if second.Code == http.StatusConflict || time.Now().After(deadline) {
			break
		}
	}
	after, err := strconv.Atoi(second.Header().Get("Retry-After"))
	if second.Code != http.StatusConflict || err != nil || after < 1 || after > 5 {
		t.Errorf("%d %v %s", second.Code, second.Header(), second.Body)
	}
	close(w.guests.block)
	answer := <-first
	if answer.Code != http.StatusAccepted {
		t.Fatalf("%d %s", answer.Code, answer.Body)
	}
	sameAnswer(t, answer, keyed(t, w.handler, "member", "k", path, body))
	if got := w.guests.databases[labID]; len(got) != 1 {
		t.Errorf("databases %v", got)
	}
}

// httpTimeout ends requests, as clients do that lose patience.
func httpTimeout(h http.Handler, d time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), d)
		defer cancel()
		h.ServeHTTP(w, r.WithContext(ctx))
	})
}

// Many clients send the same at once: there is one instance, and who gets an answer gets the same.
func TestConcurrentCallsWithOneKeyMakeOneInstance(t *testing.T) {
	w := newWorld(t, nil, nil)
	var wg sync.WaitGroup
	answers := make([]*httptest.ResponseRecorder, 8)
	for n := range answers {
		wg.Go(func() { answers[n] = keyed(t, w.handler, "member", "k", "/instances", minimalCreate) })
	}
	wg.Wait()
	body := ""
	for _, a := range answers {
		switch {
		case a.Code == http.StatusConflict:
		case a.Code != http.StatusOK, body != "" && a.Body.String() != body:
			t.Errorf("%d %s", a.Code, a.Body)
		default:
			body = a.Body.String()
		}
	}
	if n := len(w.instances(t)); n != 1 || body == "" {
		t.Errorf("%d instances", n)
	}
}

// The password of root is in the answer: it is kept sealed, and for an hour.
func TestSecretAnswersAreSealedAndShortLived(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.addLab(t)
	const path = "/instances/" + labID + "/root"
	first := keyed(t, w.handler, "member", "k", path, "")
	if first.Code != http.StatusOK || !strings.Contains(first.Body.String(), "password") {
		t.Fatalf("%d %s", first.Code, first.Body)
	}
	w.clock.Add(59 * time.Minute)
	sameAnswer(t, first, keyed(t, w.handler, "member", "k", path, ""))
	w.clock.Add(2 * time.Minute)
	for range 2 { // before and after the pruning
		late := keyed(t, w.handler, "member", "k", path, "")
		if late.Code != http.StatusConflict || strings.Contains(late.Body.String(), "password") {
			t.Errorf("%d %s", late.Code, late.Body)
		}
		if _, _, err := api.Prune(t.Context(), w.store, w.clock.Now(), api.Retention{}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestExpiredKeysArePruned(t *testing.T) {
	w := newWorld(t, nil, nil)
	for n := range 3 {
		keyed(t, w.handler, "member", fmt.Sprint("k", n), "/instances", minimalCreate)
		w.clock.Add(time.Hour)
	}
	for _, want := range []int{0, 2, 1} {
		_, calls, err := api.Prune(t.Context(), w.store, w.clock.Now(), api.Retention{})
		if err != nil || calls != want {
			t.Errorf("%d pruned, want %d: %v", calls, want, err)
		}
		w.clock.Add(22*time.Hour + time.Minute)
		if want == 2 {
			w.clock.Add(2 * time.Hour)
		}
	}
}

// mortalStore dies with its nth transaction, before or after its commit: from then on nothing is written.
type mortalStore struct {
	store.Store
	left  int
	after bool
	dead  bool
}

var errDead = errors.New("the process is gone")

func (m *mortalStore) InTx(ctx context.Context, fn func(context.Context, store.Tx) error) error {
	if m.dead {
		return errDead
	}
	if m.left--; m.left > 0 {
		return m.Store.InTx(ctx, fn)
	}
	m.dead = true
	if m.after {
		if err := m.Store.InTx(ctx, fn); err != nil {
			return err
		}
	}
	return errDead
}

// TestCrashedCallCanBeRepeated kills the process before and after every commit of a keyed call, then repeats the call on another process until it has
// an answer: what is made is there once.
func TestCrashedCallCanBeRepeated(t *testing.T) {
	for _, c := range []struct {
		name, path, body string
		commits          int
	}{
		{"instance", "/instances", minimalCreate, 2},
		{"root", "/instances/" + labID + "/root", "", 2},
		{"databases", "/instances/" + labID + "/databases", `{"databases":[{"name":"ab"}]}`, 3},
		{"users", "/instances/" + labID + "/users", `{"users":[{"name":"ab","password":"pw"}]}`, 3},
	} {
		for n := 1; n <= c.commits+1; n++ {
			for _, after := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%d/%t", c.name, n, after), func(t *testing.T) {
					w := newWorld(t, nil, nil)
					w.addLab(t)
					cfg := w.config
					mortal := &mortalStore{Store: w.store, left: n, after: after}
					cfg.Store = mortal
					doomed, err := api.New(cfg)
					if err != nil {
						t.Fatal(err)
					}
					first := keyed(t, doomed, "member", "k", c.path, c.body)
					if mortal.dead == (n > c.commits) {
						t.Fatalf("died: %t, with %d of %d commits", mortal.dead, n, c.commits)
					}
					w.repeat(t, c.name, c.path, c.body, first, mortal)
				})
			}
		}
	}
}

func (w *world) repeat(t *testing.T, name, path, body string, first *httptest.ResponseRecorder, mortal *mortalStore) {
	t.Helper()
	w.clock.Add(time.Second)
	again := keyed(t, w.handler, "member", "k", path, body)
	if again.Code == http.StatusConflict { // the dead one's lease
		w.clock.Add(2 * time.Minute)
		w.report(t, labID, trove.ServiceHealthy, w.clock.Now())
		again = keyed(t, w.handler, "member", "k", path, body)
	}
	switch {
	case again.Code >= 300:
		t.Fatalf("%d %s", again.Code, again.Body)
	case name == "databases" && len(w.guests.databases[labID]) != 1, name == "users" && len(w.guests.users[labID]) != 1:
		t.Errorf("databases %v, users %v", w.guests.databases[labID], w.guests.users[labID])
	}
	if !mortal.dead {
		sameAnswer(t, first, again)
	}
	if name == "instance" {
		if all := w.instances(t); len(all) != 2 || !strings.Contains(again.Body.String(), all[0].ID) && !strings.Contains(again.Body.String(), all[1].ID) {
			t.Errorf("%d instances", len(all))
		}
	}
	sameAnswer(t, first2(again), keyed(t, w.handler, "member", "k", path, body))
}

// A guest whose answer was lost has done it: the same call again, with its key, is not told that the thing exists. With another key it is.
func TestALostAnswerOfAGuestCanBeAskedForAgain(t *testing.T) {
	w := newWorld(t, nil, nil)
	w.addLab(t)
	path, body := "/instances/"+labID+"/databases", `{"databases":[{"name":"ab"}]}`
	w.guests.lost = trove.Errorf(trove.KindUnavailable, "The guest agent did not answer in time.")
	if rec := keyed(t, w.handler, "member", "k", path, body); rec.Code != http.StatusServiceUnavailable {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	if rec := keyed(t, w.handler, "member", "k", path, body); rec.Code != http.StatusAccepted {
		t.Errorf("the same again: %d %s", rec.Code, rec.Body)
	}
	if rec := keyed(t, w.handler, "member", "other", path, body); rec.Code != http.StatusBadRequest {
		t.Errorf("with another key: %d %s", rec.Code, rec.Body)
	}
	if rec := keyed(t, w.handler, "member", "other", path, body); rec.Code != http.StatusBadRequest {
		t.Errorf("with that key again: %d %s", rec.Code, rec.Body)
	}
}

// first2 takes the mark off an answer that was replayed itself.
func first2(r *httptest.ResponseRecorder) *httptest.ResponseRecorder {
	r.Header().Del(wire.HeaderReplayed)
	return r
}

// Every call that makes something takes a key: a POST that is no action on what is there.
func TestCallsThatMakeSomethingTakeAKey(t *testing.T) {
	changes := []string{"actOnLog", "actOnCluster", "changeSSL", "upgradeInstance"} // of what is there
	for _, op := range api.Operations() {
		makes := op.Method == http.MethodPost && !strings.HasSuffix(op.Path, "/action") && !slices.Contains(changes, op.ID)
		if makes != op.Creates {
			t.Errorf("%s: Creates is %t", op.ID, op.Creates)
		}
	}
}
