package gateway

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/trove-dbaas/trove/internal/clock"
)

// guests has the limits of each guest that has been here lately.
type guests struct {
	limits Limits

	mu    sync.Mutex
	known map[string]*guest
}

// guest is what one guest may do. All its requests share it, on whatever connections they come.
type guest struct {
	all       *guests
	requests  *rate.Limiter
	bytes     *rate.Limiter
	transfers int // under way; guarded by all.mu
}

// maxGuests bounds the memory: beyond it those that do nothing at the moment are forgotten.
const maxGuests = 20_000

func newGuests(l Limits) *guests { return &guests{limits: l, known: map[string]*guest{}} }

// enter begins a request of a guest. leave ends it.
func (g *guests) enter(instance string) (*guest, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	one := g.known[instance]
	if one == nil {
		if len(g.known) >= maxGuests {
			for id, other := range g.known {
				if other.transfers == 0 {
					delete(g.known, id)
				}
			}
		}
		l := g.limits
		one = &guest{
			all: g, requests: rate.NewLimiter(rate.Limit(l.Requests), int(2*l.Requests)+1),
			bytes: rate.NewLimiter(rate.Limit(l.BytesPerSecond), max(l.BytesPerSecond/4, pieceSize)),
		}
		g.known[instance] = one
	}
	if !one.requests.Allow() {
		return nil, refuse(http.StatusTooManyRequests, reasonBusy, "The guest asks too often.")
	}
	if one.transfers >= g.limits.Transfers {
		return nil, refuse(http.StatusTooManyRequests, reasonBusy, "The guest has too many transfers under way.")
	}
	one.transfers++
	return one, nil
}

func (g *guest) leave() {
	g.all.mu.Lock()
	defer g.all.mu.Unlock()
	g.transfers--
}

// pay waits until the guest may have sent or got n bytes, at most pieceSize, and says how long.
func (g *guest) pay(ctx context.Context, n int) (time.Duration, error) {
	waited := clock.Stopwatch()
	err := g.bytes.WaitN(ctx, n)
	return waited(), err
}

// guardedListener bounds what one address can do before it has said who it is: each handshake costs more than all that follows.
type guardedListener struct {
	net.Listener
	limits  Limits
	refused func()

	mu      sync.Mutex
	sources map[string]*source
}

type source struct {
	open      int
	accepting *rate.Limiter
}

const (
	maxSources  = 20_000
	handshakes  = 20 // a second, from one address
	acceptBurst = 100
)

// Accept implements net.Listener.
func (l *guardedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		address := sourceOf(conn.RemoteAddr().String())
		if l.enter(address) {
			return &guardedConn{Conn: conn, leave: sync.OnceFunc(func() { l.leave(address) })}, nil
		}
		l.refused()
		_ = conn.Close()
	}
}

func (l *guardedListener) enter(address string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sources == nil {
		l.sources = map[string]*source{}
	}
	s := l.sources[address]
	if s == nil {
		if len(l.sources) >= maxSources {
			for a, other := range l.sources {
				if other.open == 0 {
					delete(l.sources, a)
				}
			}
		}
		s = &source{accepting: rate.NewLimiter(handshakes, acceptBurst)}
		l.sources[address] = s
	}
	if s.open >= l.limits.Connections || !s.accepting.Allow() {
		return false
	}
	s.open++
	return true
}

func (l *guardedListener) leave(address string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sources[address].open--
}

type guardedConn struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *guardedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

func sourceOf(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return host
}

// quiet lets a few lines a minute of each source into the log, and counts the others.
type quiet struct {
	clock clock.Clock

	mu      sync.Mutex
	sources map[string]*said
}

type said struct {
	since time.Time
	lines int
	more  int
}

const (
	linesAMinute  = 30
	maxLogSources = 4096
)

func newQuiet(c clock.Clock) *quiet { return &quiet{clock: c, sources: map[string]*said{}} }

// tell says whether a line may be written, and how many were not since the last one.
func (q *quiet) tell(source string) (ok bool, more int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.clock.Now()
	s := q.sources[source]
	if s == nil {
		if len(q.sources) >= maxLogSources {
			clear(q.sources)
		}
		s = &said{since: now}
		q.sources[source] = s
	}
	if now.Sub(s.since) >= time.Minute {
		s.since, s.lines = now, 0
	}
	if s.lines >= linesAMinute {
		s.more++
		return false, 0
	}
	s.lines++
	more, s.more = s.more, 0
	return true, more
}
