package server

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	natsserver "github.com/nats-io/nats-server/v2/server"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/natsbus"
	"github.com/trove-dbaas/trove/guestapi"
)

// Limits are what one guest may use of the bus. The protocol knows none of them.
type Limits struct {
	Connections int // at once, with one key; two because a renewal may overlap
	Messages    int // per second
	Bytes       int // per second
}

func (l Limits) withDefaults() Limits {
	if l.Connections == 0 {
		l.Connections = 2
	}
	if l.Messages == 0 {
		l.Messages = 20
	}
	if l.Bytes == 0 {
		l.Bytes = 256 << 10
	}
	return l
}

const (
	patience    = 3 * time.Second // a guest may be over a rate for so long
	banAfter    = 3               // times within banWindow that a guest was cut for its rate, and its key is revoked
	banWindow   = time.Hour
	askTimeout  = 5 * time.Second
	manyClients = 2000 // above it the rates are looked at every 5 s: each look costs a lock per client
	toAsk       = 4096
)

// connID names a connection among those of all brokers.
type connID struct {
	server string
	id     uint64
}

// client is a guest's connection as the guard knows it.
type client struct {
	connID
	key      string
	instance string

	messages, bytes int64 // unasked, at the last look
	seen            bool
	over            time.Duration // since when over a rate
}

// guard watches the guests' connections: how many share a key, whether the key is still the instance's, how much they send.
//
// Of too many connections the oldest goes: a guest behind a network that swallowed its old connections must get in. Those to other brokers count too; each
// broker cuts its own. One that has ended unseen, with its broker, is the oldest before long and is forgotten.
type guard struct {
	server *Server
	conn   *natsbus.Conn
	ask    chan *client
	done   sync.WaitGroup

	mu     sync.Mutex
	here   int // connections to this broker
	byID   map[connID]*client
	byKey  map[string][]*client // oldest first
	strike map[string][]time.Time
}

func newGuard(s *Server) *guard {
	return &guard{
		server: s, ask: make(chan *client, toAsk),
		byID: map[connID]*client{}, byKey: map[string][]*client{}, strike: map[string][]time.Time{},
	}
}

func (g *guard) start(ctx, background context.Context) error {
	conn, err := g.server.inProcess(func(_, key string) (string, error) { return g.server.accounts.issueSystem(key) }, "guard")
	if err != nil {
		return err
	}
	g.conn = conn
	if _, err := conn.Subscribe(ctx, connectEvents, "", g.connected); err != nil {
		return err
	}
	if _, err := conn.Subscribe(ctx, disconnectEvents, "", g.disconnected); err != nil {
		return err
	}
	if err := g.adopt(); err != nil {
		return err
	}
	g.done.Go(func() { g.askStore(background) })
	g.done.Go(func() { g.watchRates(background) })
	return nil
}

func (g *guard) close() {
	g.done.Wait()
	if g.conn != nil {
		_ = g.conn.Close()
	}
}

func (g *guard) connected(_ context.Context, m bus.Message) {
	var event natsserver.ConnectEventMsg
	if err := json.Unmarshal(m.Data, &event); err != nil {
		g.server.log.Error("connect event could not be read", "err", err)
		return
	}
	if event.Client.IssuerKey != public(g.server.accounts.keys.guestSigner) {
		return
	}
	// The instance is the name in the credential, whose signature the broker has checked. NameTag is the account's, Name is what the
	// client says.
	claims, err := jwt.DecodeUserClaims(event.Client.Jwt)
	if err != nil {
		g.server.log.Error("credential in a connect event could not be read", "err", err)
		return
	}
	g.add(&client{connID: connID{event.Server.ID, event.Client.ID}, key: claims.Subject, instance: claims.Name})
}

// adopt adds the connections that came before the guard listened: after a restart all guests come at once.
func (g *guard) adopt() error {
	all, err := g.server.broker.Connz(&natsserver.ConnzOptions{Username: true, Limit: 1 << 20})
	if err != nil {
		return err
	}
	for _, info := range all.Conns {
		if info.IssuerKey != public(g.server.accounts.keys.guestSigner) {
			continue
		}
		claims, err := jwt.DecodeUserClaims(info.JWT)
		if err != nil {
			return err
		}
		g.add(&client{connID: g.local(info.Cid), key: claims.Subject, instance: claims.Name})
	}
	return nil
}

// add is harmless for a connection that has gone already: it counts until it is cut as the oldest.
func (g *guard) add(c *client) {
	g.mu.Lock()
	if _, known := g.byID[c.connID]; known {
		g.mu.Unlock()
		return
	}
	g.byID[c.connID] = c
	if g.isHere(c) {
		g.here++
	}
	g.byKey[c.key] = append(g.byKey[c.key], c)
	var tooMany []*client
	if n := len(g.byKey[c.key]) - g.server.cfg.Limits.Connections; n > 0 {
		tooMany = append(tooMany, g.byKey[c.key][:n]...)
	}
	g.mu.Unlock()
	for _, old := range tooMany {
		g.kick(old, "connections")
	}
	if !g.isHere(c) {
		return // its own broker asks
	}
	select {
	case g.ask <- c:
	default: // so many at once: the credential was good, and the next connect is looked at
	}
}

func (g *guard) disconnected(_ context.Context, m bus.Message) {
	var event natsserver.DisconnectEventMsg
	if err := json.Unmarshal(m.Data, &event); err != nil {
		g.server.log.Error("disconnect event could not be read", "err", err)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forget(connID{event.Server.ID, event.Client.ID})
}

func (g *guard) local(id uint64) connID { return connID{g.server.broker.ID(), id} }

func (g *guard) isHere(c *client) bool { return c.server == g.server.broker.ID() }

// guests returns how many connections of guests this broker has.
func (g *guard) guests() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.here
}

// forget needs g.mu.
func (g *guard) forget(id connID) {
	c, ok := g.byID[id]
	if !ok {
		return
	}
	delete(g.byID, id)
	if g.isHere(c) {
		g.here--
	}
	rest := make([]*client, 0, len(g.byKey[c.key]))
	for _, other := range g.byKey[c.key] {
		if other != c {
			rest = append(rest, other)
		}
	}
	if len(rest) == 0 {
		delete(g.byKey, c.key)
	} else {
		g.byKey[c.key] = rest
	}
}

func (g *guard) kick(c *client, reason string) {
	g.mu.Lock()
	g.forget(c.connID)
	g.mu.Unlock()
	if !g.isHere(c) {
		return
	}
	if err := g.server.broker.DisconnectClientByID(c.id); err != nil {
		return // it left by itself
	}
	g.server.metrics.kicks.WithLabelValues(reason).Inc()
	g.server.log.Warn("guest connection cut", "instance", c.instance, "reason", reason)
}

// askStore cuts connections of instances that are gone, and of keys that are no longer theirs: deletion needs no revocation.
func (g *guard) askStore(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-g.ask:
			callCtx, cancel := context.WithTimeout(ctx, askTimeout)
			key, err := g.server.cfg.Guests.GuestKey(callCtx, c.instance)
			cancel()
			switch {
			case trove.IsNotFound(err):
				g.kick(c, "instance gone")
			case trove.KindOf(err) == trove.KindForbidden: // its credential is not renewed; until that ends it may stay
			case err != nil:
				if ctx.Err() == nil {
					g.server.log.Warn("guest's key could not be looked up", "instance", c.instance, "err", err)
				}
			case key != c.key:
				g.kick(c, "old key")
			}
		}
	}
}

func (g *guard) watchRates(ctx context.Context) {
	timer := time.NewTimer(floodLook)
	defer timer.Stop()
	var flood floodWatch
	last := g.server.cfg.Clock.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		now := g.server.cfg.Clock.Now()
		pause := time.Second
		if g.server.broker.NumClients() > manyClients {
			pause = 5 * time.Second
		}
		if flood.grown(g.server.broker, now, g.server.cfg.Limits) || now.Sub(last) >= pause {
			g.look(ctx, now, now.Sub(last))
			last = now
		}
		timer.Reset(floodLook)
	}
}

// look compares the counters of all connections with those of the last look.
func (g *guard) look(ctx context.Context, now time.Time, elapsed time.Duration) {
	if elapsed <= 0 {
		return
	}
	all, err := g.server.broker.Connz(&natsserver.ConnzOptions{Limit: 1 << 20})
	if err != nil {
		g.server.log.Warn("connections could not be listed", "err", err)
		return
	}
	limits := g.server.cfg.Limits
	var cut []*client
	g.mu.Lock()
	for _, info := range all.Conns {
		c, ok := g.byID[g.local(info.Cid)]
		if !ok {
			continue
		}
		// What it was asked it may answer: a user who asks a lot must not get its guest cut.
		sent, sentBytes := info.InMsgs-info.OutMsgs, info.InBytes-info.OutMsgs*guestapi.MaxMessage
		messages, bytes := sent-c.messages, sentBytes-c.bytes
		over := c.seen && (float64(messages) > float64(limits.Messages)*elapsed.Seconds() ||
			float64(bytes) > float64(limits.Bytes)*elapsed.Seconds())
		c.messages, c.bytes, c.seen = sent, sentBytes, true
		switch {
		case limits.floods(messages, bytes, elapsed):
			cut = append(cut, c)
			continue
		case !over:
			c.over = 0
			continue
		}
		if c.over += elapsed; c.over >= patience-patience/10 { // a look is never exactly on time
			cut = append(cut, c)
		}
	}
	g.mu.Unlock()
	for _, c := range cut {
		g.kick(c, "rate")
		if g.thirdTime(c.key, now) {
			g.server.log.Error("guest flooded the bus again and again; its key is revoked", "instance", c.instance)
			if err := g.server.RevokeGuest(ctx, c.instance, c.key); err != nil {
				g.server.log.Error("key of a flooding guest could not be revoked", "instance", c.instance, "err", err)
			}
			g.server.alarm(ctx, Alarm{
				Instance: c.instance, Kind: AlarmFlood,
				Sentence: fmt.Sprintf("The guest flooded the message bus %d times within %s: its key was revoked, and it cannot be commanded any more.", banAfter, banWindow),
			})
		}
	}
}

// thirdTime notes that a key was cut for its rate.
func (g *guard) thirdTime(key string, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for k, times := range g.strike { // few: only those that flooded within the hour
		if now.Sub(times[len(times)-1]) > banWindow {
			delete(g.strike, k)
		}
	}
	times := g.strike[key]
	for len(times) > 0 && now.Sub(times[0]) > banWindow {
		times = times[1:]
	}
	g.strike[key] = append(times, now)
	if len(g.strike[key]) < banAfter {
		return false
	}
	delete(g.strike, key)
	return true
}
