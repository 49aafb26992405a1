package edge_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/edge"
)

// limit is how long a server may take to be still, on a machine that is busy as well.
const limit = time.Minute

// stoppable is a server that is served on a port of the loopback.
type stoppable struct {
	*edge.Server
	address string
	ended   chan error
}

func serveStoppable(t *testing.T, address string, h http.Handler, draining chan struct{}) *stoppable {
	t.Helper()
	inner, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	l := edge.NewListener(inner)
	s := &stoppable{edge.NewServer(&http.Server{Handler: h, ReadHeaderTimeout: time.Minute}, draining, l), inner.Addr().String(), make(chan error, 1)}
	go func() { s.ended <- s.Serve(l) }()
	return s
}

// stop stops it, within the limit.
func (s *stoppable) stop(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), limit)
	defer cancel()
	s.Stop(ctx)
	if ctx.Err() != nil {
		t.Errorf("it was not still after %s", limit)
	}
	if err := <-s.ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// busy posts all the time over connections that are kept, to the first address that does not refuse, until ctx ends. It counts those that were answered.
func busy(ctx context.Context, t *testing.T, answered *atomic.Int64, addresses ...string) {
	var wg sync.WaitGroup
	for range 8 {
		client := &http.Client{Transport: &http.Transport{}}
		wg.Go(func() {
			defer client.CloseIdleConnections()
			for n := 0; ctx.Err() == nil; n++ {
				if err := post(client, addresses[n%len(addresses)]); err == nil {
					answered.Add(1)
				} else if e, ok := errors.AsType[*net.OpError](err); !ok || e.Op != "dial" { // else there was no connection
					t.Errorf("a request failed: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func post(client *http.Client, address string) error {
	resp, err := client.Post("http://"+address+"/", "text/plain", strings.NewReader("x"))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// TestAServerThatStopsFailsNoRequest stops two servers one after the other, again and again, while clients that try again only where they were refused are busy.
func TestAServerThatStopsFailsNoRequest(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})
	all := []*stoppable{serveStoppable(t, "127.0.0.1:0", h, nil), serveStoppable(t, "127.0.0.1:0", h, nil)}
	addresses := []string{all[0].address, all[1].address}
	ctx, cancel := context.WithCancel(t.Context())
	var answered atomic.Int64
	var clients sync.WaitGroup
	clients.Go(func() { busy(ctx, t, &answered, addresses...) })
	t.Cleanup(func() { cancel(); clients.Wait() })
	for n := range 6 {
		before := answered.Load()
		for end := time.Now().Add(limit); answered.Load() < before+50; {
			if _ = clock.Sleep(t.Context(), 5*time.Millisecond); time.Now().After(end) {
				t.Fatalf("%d requests were answered", answered.Load())
			}
		}
		all[n%2].SetLinger(limit / 2) // a client that is put aside finds its connection open
		all[n%2].stop(t)
		all[n%2] = serveStoppable(t, addresses[n%2], h, nil)
	}
	cancel()
	clients.Wait()
	for _, s := range all {
		s.stop(t)
	}
}

// TestAServerThatStopsTellsLongPolls: they end with their own answer, and not with the time that requests have.
func TestAServerThatStopsTellsLongPolls(t *testing.T) {
	draining, begun := make(chan struct{}), make(chan struct{})
	s := serveStoppable(t, "127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-draining
		_, _ = io.WriteString(w, "nothing new")
	}), draining)
	got := make(chan string, 1)
	go func() {
		resp, err := (&http.Client{Transport: &http.Transport{}}).Get("http://" + s.address)
		if err != nil {
			got <- err.Error()
			return
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		got <- string(text)
	}()
	<-begun
	s.stop(t)
	if text := <-got; text != "nothing new" {
		t.Errorf("the long poll got %q", text)
	}
	if err := post(&http.Client{Transport: &http.Transport{}}, s.address); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a request afterwards: %v, want that it is refused", err)
	}
}

// TestAServerWithoutConnectionsStopsAtOnce.
func TestAServerWithoutConnectionsStopsAtOnce(t *testing.T) {
	s := serveStoppable(t, "127.0.0.1:0", http.NotFoundHandler(), nil)
	s.SetLinger(2 * limit)
	s.stop(t)
}
