package membus

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/trove-dbaas/trove/bus"
)

// conn is one connection to a Broker.
type conn struct {
	broker *Broker
	name   string
	done   chan struct{} // closed by Close

	mu     sync.Mutex
	closed bool
	subs   []*subscription
}

var _ bus.Conn = (*conn)(nil)

// Publish implements bus.Conn.
func (c *conn) Publish(ctx context.Context, subject string, data []byte) error {
	if err := c.ready(ctx, subject); err != nil {
		return fmt.Errorf("publish on %s: %w", subject, err)
	}
	c.broker.send(bus.NewMessage(subject, copied(data), nil))
	return nil
}

// Request implements bus.Conn.
func (c *conn) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	if err := c.ready(ctx, subject); err != nil {
		return nil, fmt.Errorf("request on %s: %w", subject, err)
	}
	if _, ok := ctx.Deadline(); !ok {
		return nil, fmt.Errorf("request on %s: the context has no deadline", subject)
	}
	answer := make(chan []byte, 1)
	var answered atomic.Bool
	reply := func(_ context.Context, data []byte) error {
		if !answered.CompareAndSwap(false, true) {
			return fmt.Errorf("second answer to a request on %s: %w", subject, bus.ErrForbidden)
		}
		c.broker.mu.Lock()
		lost, _, _ := c.broker.befalls(subject, true)
		c.broker.mu.Unlock()
		if !lost {
			answer <- copied(data)
		}
		return nil
	}
	if c.broker.send(bus.NewMessage(subject, copied(data), reply)) == 0 {
		return nil, fmt.Errorf("request on %s: %w", subject, bus.ErrNoResponder)
	}
	select {
	case a := <-answer:
		return a, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the answer to a request on %s: %w", subject, ctx.Err())
	case <-c.done:
		return nil, fmt.Errorf("wait for the answer to a request on %s: %w", subject, bus.ErrClosed)
	}
}

// Subscribe implements bus.Conn.
func (c *conn) Subscribe(ctx context.Context, subject, queue string, h bus.Handler) (func(), error) {
	if err := bus.CheckSubject(subject, true); err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	handlerCtx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	s := &subscription{
		pattern: subject, queue: queue, wake: make(chan struct{}, 1),
		quit: make(chan struct{}), finished: make(chan struct{}), cancel: cancel,
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		cancel(bus.ErrClosed)
		return nil, fmt.Errorf("subscribe to %s: %w", subject, bus.ErrClosed)
	}
	c.subs = append(c.subs, s)
	go s.run(handlerCtx, h)
	c.broker.mu.Lock()
	c.broker.subs[s] = struct{}{}
	c.broker.mu.Unlock()
	return func() {
		c.broker.forget(s)
		c.mu.Lock()
		c.subs = slices.DeleteFunc(c.subs, func(other *subscription) bool { return other == s })
		c.mu.Unlock()
		s.stop()
	}, nil
}

// Close implements bus.Conn.
func (c *conn) Close() error {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		close(c.done)
	}
	subs := slices.Clone(c.subs)
	c.mu.Unlock()
	c.broker.mu.Lock()
	delete(c.broker.conns, c)
	c.broker.mu.Unlock()
	for _, s := range subs {
		c.broker.forget(s)
		s.cancel(bus.ErrClosed)
	}
	for _, s := range subs {
		s.stop()
	}
	return nil
}

func (c *conn) ready(ctx context.Context, subject string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-c.done:
		return bus.ErrClosed
	default:
	}
	return bus.CheckSubject(subject, false)
}

func (b *Broker) forget(s *subscription) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.subs, s)
}

// copied gives the receiver bytes of its own, as a network would, so that a sender may use its buffer again.
func copied(data []byte) []byte { return append([]byte(nil), data...) }

// maxPending is how many messages wait for a handler before newer ones are lost; the report subscription of the real bus has the same limit.
const maxPending = 65536

// subscription runs one handler for one message after another.
type subscription struct {
	pattern, queue string
	wake           chan struct{} // holds a token while there may be something in pending
	quit           chan struct{}
	finished       chan struct{}
	quitOnce       sync.Once
	cancel         context.CancelCauseFunc // of the handler's context

	mu      sync.Mutex
	pending []bus.Message
}

func (s *subscription) push(m bus.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) >= maxPending {
		return
	}
	s.pending = append(s.pending, m)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *subscription) take() []bus.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	batch := s.pending
	s.pending = nil
	return batch
}

func (s *subscription) run(ctx context.Context, h bus.Handler) {
	defer close(s.finished)
	for {
		select {
		case <-s.quit:
			return
		case <-s.wake:
		}
		for _, m := range s.take() {
			select {
			case <-s.quit:
				return
			default:
			}
			h(ctx, m)
		}
	}
}

// stop waits for the running handler.
func (s *subscription) stop() {
	s.quitOnce.Do(func() { close(s.quit) })
	<-s.finished
	s.cancel(bus.ErrClosed)
}
