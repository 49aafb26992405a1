// Package natsbus is the bus over NATS core: connections for both sides, and how a guest enrols, keeps its identity and joins. The broker is
// in package natsbus/server, which this package does not import, so that the guest's binary does not link it.
//
// A message is carried at most once. What the broker refuses after the fact (a publish without the right to do so) is logged and not returned:
// the protocol answers later. Connections may be used from several goroutines.
package natsbus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/trove-dbaas/trove/bus"
)

// What waits for a handler before newer messages are dropped.
const (
	pendingMessages = 65536
	pendingBytes    = 16 << 20
)

// Settings are how a connection behaves.
type Settings struct {
	Log *slog.Logger
	// NeverReply makes Message.Reply a no-op: a controller must not answer to a reply subject that a guest chose.
	NeverReply bool
	// OnError hears what the broker says outside of a call, such as that it does not take the credential of a reconnect; nil: the log is all.
	OnError func(err error)
}

// Conn is a connection to a NATS broker.
type Conn struct {
	nc       *nats.Conn
	settings Settings

	mu     sync.Mutex
	closed bool
	subs   map[*subscription]struct{}
	lost   int // messages dropped by subscriptions that are gone
}

var _ bus.Conn = (*Conn)(nil)

// Connect connects with the options given and some of its own (the error handler). It is the base of DialGuest and of the broker's
// connections for controllers.
func Connect(url string, s Settings, options ...nats.Option) (*Conn, error) {
	c := &Conn{settings: s, subs: map[*subscription]struct{}{}}
	nc, err := nats.Connect(url, append(options, nats.ErrorHandler(c.report))...)
	if err != nil {
		return nil, fmt.Errorf("connect to the bus: %w", err)
	}
	c.nc = nc
	return c, nil
}

// report logs what the broker says outside of a call.
func (c *Conn) report(_ *nats.Conn, sub *nats.Subscription, err error) {
	subject := ""
	if sub != nil {
		subject = sub.Subject
	}
	if errors.Is(err, nats.ErrPermissionViolation) {
		err = fmt.Errorf("%w: %w", bus.ErrForbidden, err)
	}
	c.settings.Log.Warn("bus reported an error", "subject", subject, "err", err)
	if c.settings.OnError != nil {
		c.settings.OnError(err)
	}
}

// Connected reports whether the connection is up at the moment.
func (c *Conn) Connected() bool { return c.nc.IsConnected() }

// Reconnect connects anew, which asks for a new credential and interrupts for about 2 ms. A request that waits for its answer fails.
func (c *Conn) Reconnect() error {
	if err := c.nc.ForceReconnect(); err != nil {
		return fmt.Errorf("connect anew: %w", translate(err))
	}
	return nil
}

// Dropped returns how many messages were lost because handlers were too slow.
func (c *Conn) Dropped() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.lost
	for s := range c.subs {
		n += s.dropped()
	}
	return n
}

// Publish implements bus.Conn. While the connection is interrupted it is an error: a report from before an outage is worth nothing.
func (c *Conn) Publish(ctx context.Context, subject string, data []byte) error {
	if err := bus.CheckSubject(subject, false); err != nil {
		return fmt.Errorf("publish on %s: %w", subject, err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("publish on %s: %w", subject, err)
	}
	if err := c.nc.Publish(subject, data); err != nil {
		return fmt.Errorf("publish on %s: %w", subject, translate(err))
	}
	return nil
}

// Request implements bus.Conn.
func (c *Conn) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	if err := bus.CheckSubject(subject, false); err != nil {
		return nil, fmt.Errorf("request on %s: %w", subject, err)
	}
	if _, ok := ctx.Deadline(); !ok {
		return nil, fmt.Errorf("request on %s: the context has no deadline", subject)
	}
	m, err := c.nc.RequestWithContext(ctx, subject, data)
	if err != nil {
		return nil, fmt.Errorf("request on %s: %w", subject, translate(err))
	}
	return m.Data, nil
}

// Subscribe implements bus.Conn. Where the connection is up it waits for the broker's answer, so that a subject without the right to it is
// ErrForbidden.
func (c *Conn) Subscribe(ctx context.Context, subject, queue string, h bus.Handler) (func(), error) {
	if err := bus.CheckSubject(subject, true); err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	handlerCtx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	s := &subscription{handler: h, cancel: cancel, neverReply: c.settings.NeverReply}
	if err := c.open(handlerCtx, s, subject, queue); err != nil {
		cancel(bus.ErrClosed)
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	if err := c.confirm(ctx, subject); err != nil {
		c.stop(s)
		return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	return func() { c.stop(s) }, nil
}

func (c *Conn) open(handlerCtx context.Context, s *subscription, subject, queue string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return bus.ErrClosed
	}
	sub, err := c.nc.QueueSubscribe(subject, queue, func(m *nats.Msg) { s.handle(handlerCtx, m) })
	if err != nil {
		return translate(err)
	}
	if err := sub.SetPendingLimits(pendingMessages, pendingBytes); err != nil {
		_ = sub.Unsubscribe()
		return translate(err)
	}
	s.sub = sub
	c.subs[s] = struct{}{}
	return nil
}

// confirm waits for a round trip: the broker's refusal arrives before the answer to a ping that was sent after the subscription. Without an
// answer the subscription stays: it is sent again with the next connect.
func (c *Conn) confirm(ctx context.Context, subject string) error {
	if !c.nc.IsConnected() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := c.nc.FlushWithContext(ctx); err != nil {
		return nil
	}
	err := c.nc.LastError()
	switch {
	case errors.Is(err, nats.ErrMaxSubscriptionsExceeded):
		return fmt.Errorf("%w: %w", bus.ErrForbidden, err)
	case errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), `Subscription to "`+subject+`"`):
		return fmt.Errorf("%w: %w", bus.ErrForbidden, err)
	}
	return nil
}

func (c *Conn) stop(s *subscription) {
	c.mu.Lock()
	if _, open := c.subs[s]; open {
		delete(c.subs, s)
		c.lost += s.dropped()
	}
	c.mu.Unlock()
	_ = s.sub.Unsubscribe() // an error says that it is gone already
	s.finish()
}

// Close implements bus.Conn. What was published before is handed to the broker if it is reachable within a second.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.closed = true
	subs := make([]*subscription, 0, len(c.subs))
	for s := range c.subs {
		subs = append(subs, s)
	}
	c.mu.Unlock()
	for _, s := range subs {
		s.cancel(bus.ErrClosed)
	}
	if c.nc.IsConnected() {
		_ = c.nc.FlushTimeout(time.Second) // without an answer there is nobody to hand it to
	}
	c.nc.Close()
	for _, s := range subs {
		s.finish()
	}
	return nil
}

// subscription runs a handler and knows when it has ended.
type subscription struct {
	sub        *nats.Subscription
	handler    bus.Handler
	cancel     context.CancelCauseFunc
	neverReply bool

	mu      sync.Mutex // held while the handler runs
	stopped bool
}

func (s *subscription) handle(ctx context.Context, m *nats.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	var reply func(context.Context, []byte) error
	if m.Reply != "" && !s.neverReply {
		reply = func(_ context.Context, data []byte) error {
			if err := m.Respond(data); err != nil {
				return fmt.Errorf("answer on %s: %w", m.Subject, translate(err))
			}
			return nil
		}
	}
	s.handler(ctx, bus.NewMessage(m.Subject, m.Data, reply))
}

// finish waits for the running handler.
func (s *subscription) finish() {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.cancel(bus.ErrClosed)
}

func (s *subscription) dropped() int {
	n, _ := s.sub.Dropped() // an error says that it is closed: nothing more is dropped
	return n
}

// translate gives the port's errors for those of the client library.
func translate(err error) error {
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return bus.ErrNoResponder
	case errors.Is(err, nats.ErrConnectionClosed):
		return fmt.Errorf("%w: %w", bus.ErrClosed, err)
	case errors.Is(err, nats.ErrPermissionViolation):
		return fmt.Errorf("%w: %w", bus.ErrForbidden, err)
	case errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrConnectionReconnecting):
		return fmt.Errorf("the connection to the bus is interrupted: %w", err)
	}
	return err
}
