package keystone

import (
	"context"
	"fmt"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
)

// flights lets all who want the same wait for one who does it. What is done is nobody's in particular: it has a limit of its own, and goes on when the
// caller who began it is gone.
type flights[K comparable, V any] struct {
	limit time.Duration

	mu      sync.Mutex // guards all below
	running sync.WaitGroup
	closed  bool
	byKey   map[K]*flight[V]
}

type flight[V any] struct {
	done   chan struct{}   // closed when value and err are there
	over   <-chan struct{} // closed when the limit has passed
	cancel context.CancelFunc
	value  V
	err    error
}

// do returns what f returns, called now or by another who asked for the same key and is not done. It ends with ctx, and with the limit.
func (s *flights[K, V]) do(ctx context.Context, k K, f func(context.Context) (V, error)) (V, error) {
	var none V
	fl, err := s.join(ctx, k, f)
	if err != nil {
		return none, err
	}
	select {
	case <-fl.done:
		return fl.value, fl.err
	case <-ctx.Done():
		return none, fmt.Errorf("wait for Keystone: %w", ctx.Err())
	case <-fl.over:
	}
	select {
	case <-fl.done: // it has just ended
		return fl.value, fl.err
	default:
		return none, unavailable(fmt.Errorf("no answer within %s", s.limit))
	}
}

// join returns the flight of a key and begins it if there is none.
func (s *flights[K, V]) join(ctx context.Context, k K, f func(context.Context) (V, error)) (*flight[V], error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, trove.Errorf(trove.KindUnavailable, "The service is stopping.")
	}
	if fl := s.byKey[k]; fl != nil && !fl.late() {
		return fl, nil
	}
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.limit)
	fl := &flight[V]{done: make(chan struct{}), over: own.Done(), cancel: cancel}
	if s.byKey == nil {
		s.byKey = map[K]*flight[V]{}
	}
	s.byKey[k] = fl
	s.running.Go(func() {
		defer cancel() // after done is closed: over must not come first
		fl.run(own, f)
		s.mu.Lock()
		if s.byKey[k] == fl {
			delete(s.byKey, k)
		}
		s.mu.Unlock()
		close(fl.done)
	})
	return fl, nil
}

// late reports whether the limit has passed. Nobody joins such a flight, even if it takes a moment to end.
func (f *flight[V]) late() bool {
	select {
	case <-f.over:
		return true
	default:
		return false
	}
}

// run calls f. It runs outside of any request, where nobody else would catch what a library does with a strange answer.
func (f *flight[V]) run(ctx context.Context, do func(context.Context) (V, error)) {
	defer func() {
		if p := recover(); p != nil {
			f.err = fmt.Errorf("panic while asking Keystone: %v", p)
		}
	}()
	f.value, f.err = do(ctx)
}

// close ends all flights and waits for them.
func (s *flights[K, V]) close() {
	s.mu.Lock()
	s.closed = true
	for _, f := range s.byKey {
		f.cancel()
	}
	s.mu.Unlock()
	s.running.Wait()
}
