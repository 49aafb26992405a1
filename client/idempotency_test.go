package client_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
)

// flaky makes an instance for each new key and loses the connection before the first answers.
type flaky struct {
	*server
	keeps bool // it says that it keeps keys
	lose  int

	mu    sync.Mutex
	asked int
	made  map[string]int
}

func newFlaky(t *testing.T, keeps bool, lose int) (*flaky, *client.Client) {
	t.Helper()
	f := &flaky{keeps: keeps, lose: lose, made: map[string]int{}}
	f.server = newServer(t, f.serve)
	f.valid.Store("t")
	c, err := client.New(client.Config{Token: "t", Endpoint: f.URL + "/database/v1.0/p"})
	if err != nil {
		t.Fatal(err)
	}
	// The version document needs no token.
	inner := f.Config.Handler
	f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/database/v1.0/" {
			inner.ServeHTTP(w, r)
			return
		}
		if f.keeps {
			w.Header().Set(wire.HeaderIdempotency, "86400")
		}
		_, _ = fmt.Fprint(w, `{"version":{}}`)
	})
	return f, c
}

func (f *flaky) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	key := r.Header.Get(wire.HeaderIdempotencyKey)
	if _, done := f.made[key]; !done {
		f.made[key] = len(f.made) + 1
	}
	if f.asked <= f.lose {
		panic(http.ErrAbortHandler)
	}
	if f.asked == f.lose+1 && f.lose > 0 {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusConflict)
		_, _ = fmt.Fprint(w, `{"conflict":{"code":409,"message":"still running"}}`)
		return
	}
	_, _ = fmt.Fprintf(w, `{"instance":{"id":"i%d"}}`, f.made[key])
}

func TestLostConnectionMakesOneInstance(t *testing.T) {
	f, c := newFlaky(t, true, 2)
	i, err := c.CreateInstance(t.Context(), wire.InstanceCreate{Name: "db"})
	if err != nil || i.ID != "i1" || len(f.made) != 1 || f.asked != 4 {
		t.Errorf("%+v %v, %d made with %d requests", i, err, len(f.made), f.asked)
	}
	if i, err = c.CreateInstance(t.Context(), wire.InstanceCreate{Name: "db"}); err != nil || i.ID != "i2" {
		t.Errorf("another call: %+v %v", i, err)
	}
	for range 2 {
		if i, err = c.CreateInstance(client.WithKey(t.Context(), "mine"), wire.InstanceCreate{Name: "db"}); err != nil || i.ID != "i3" {
			t.Errorf("the caller's key: %+v %v", i, err)
		}
	}
}

// A server that does not keep keys would make two: it is asked once, and the error says that it is not known what came of it.
func TestNothingIsRepeatedWhereKeysAreNotKept(t *testing.T) {
	f, c := newFlaky(t, false, 9)
	if _, err := c.CreateInstance(t.Context(), wire.InstanceCreate{Name: "db"}); err == nil || f.asked != 1 {
		t.Errorf("%v after %d requests", err, f.asked)
	}
}
