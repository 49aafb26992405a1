package natsbus

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/internal/clock"
)

// Options are how a guest joins.
type Options struct {
	Log   *slog.Logger
	Clock clock.Clock // nil: the machine's
	// OnConnect is called after the first and after each further connect, one call after another, not before DialGuest has returned. Its
	// context ends with the connection. The agent says hello here.
	OnConnect func(ctx context.Context)
	// Jitter is the most that is waited at random before a reconnect; at least 1 s. SetJitter changes it.
	Jitter time.Duration
	// LostAfter is how long no address of the bus may answer before the guest asks the enrolment endpoint whether there are others; 30 s if 0. The jitter is
	// added at random, and a broker that answers and has no time gets ten times as long.
	LostAfter time.Duration
	// Dial connects to brokers and enrolment endpoints; nil: a Dialer.
	Dial DialFunc
}

const (
	minJitter     = time.Second
	reconnectWait = 2 * time.Second // between attempts that failed, besides the jitter

	// lostAfter is how long no address of the bus may answer before the enrolment endpoint is asked for others.
	lostAfter = 30 * time.Second
	// tryTimeout is how long a broker may take to accept a new credential, for each of tryAddresses.
	tryTimeout   = 4 * time.Second
	tryAddresses = 2
	// badClock is the difference of clocks from which on it counts; less is the way that a credential takes.
	badClock = time.Minute
)

// GuestConn is a guest's connection. It reconnects for ever, with whatever credential its directory holds at the time, and renews
// an old credential over HTTPS by itself when no controller has done so over the bus.
type GuestConn struct {
	*Conn
	id     *identity
	log    *slog.Logger
	clock  clock.Clock
	lost   time.Duration
	roots  atomic.Pointer[x509.CertPool]
	jitter atomic.Int64
	now    atomic.Bool // the next reconnect is wanted: no pause
	renews chan struct{}

	issued  atomic.Int64                         // when the newest credential was issued, by the controller's clock, in seconds
	skew    atomic.Int64                         // how far this machine's clock is ahead of the controller's
	refused atomic.Bool                          // the broker did not accept the credential
	busy    atomic.Bool                          // somebody was there at the last attempt and hung up
	down    atomic.Pointer[func() time.Duration] // for how long there is no connection; nil while there is one

	stop    context.CancelFunc
	workers sync.WaitGroup
	once    sync.Once
}

// DialGuest joins the bus with the identity in dir. It returns without waiting for the broker: OnConnect tells. It is an error if the guest has
// not enrolled.
func DialGuest(ctx context.Context, dir string, o Options) (*GuestConn, error) {
	id, err := openIdentity(dir)
	if err != nil {
		return nil, fmt.Errorf("join the bus: %w", err)
	}
	id.dial = orDialer(o.Dial)
	credential, err := id.credential()
	if err != nil {
		return nil, fmt.Errorf("join the bus: %w", err)
	}
	g := &GuestConn{id: id, log: o.Log, clock: o.Clock, lost: cmp.Or(o.LostAfter, lostAfter), renews: make(chan struct{}, 1)}
	if g.clock == nil {
		g.clock = clock.System{}
	}
	g.SetJitter(o.Jitter)
	g.cutOff()
	if err := g.trust(credential); err != nil {
		return nil, fmt.Errorf("join the bus: %w", err)
	}
	ctx, g.stop = context.WithCancel(context.WithoutCancel(ctx))
	ready := make(chan struct{})
	defer close(ready)
	connected := func(*nats.Conn) {
		<-ready
		g.down.Store(nil)
		g.refused.Store(false)
		g.busy.Store(false)
		g.log.Info("guest connected to the bus", "guest", id.Instance)
		if o.OnConnect != nil && ctx.Err() == nil {
			o.OnConnect(ctx)
		}
	}
	g.Conn, err = Connect("", Settings{Log: o.Log, OnError: g.unaccepted}, g.options(credential, connected)...)
	if err != nil {
		g.stop()
		return nil, err
	}
	g.workers.Go(func() { g.keepCredential(ctx) })
	return g, nil
}

func (g *GuestConn) options(c bus.Credential, connected nats.ConnHandler) []nats.Option {
	return []nats.Option{
		func(o *nats.Options) error { o.Servers = urls(c.Addresses); return nil },
		nats.Name(g.id.Instance),
		nats.UserJWT(g.jwt, g.id.key.Sign),
		nats.Secure(&tls.Config{MinVersion: tls.VersionTLS13, Time: g.CertificateTime}),
		func(o *nats.Options) error {
			o.RootCAsCB = func() (*x509.CertPool, error) { return g.roots.Load(), nil }
			return nil
		},
		nats.SetCustomDialer(dialing(g.id.dial)),
		nats.MaxReconnects(-1),
		nats.RetryOnFailedConnect(true),
		nats.IgnoreAuthErrorAbort(),
		nats.Timeout(20 * time.Second),
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.ReconnectBufSize(-1),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(minJitter, minJitter),
		nats.ReconnectToServer(g.nextServer),
		nats.IgnoreDiscoveredServers(), // the credential says where the bus is
		nats.ConnectHandler(connected),
		nats.ReconnectHandler(connected),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			g.log.Info("guest lost its connection to the bus", "guest", g.id.Instance, "err", err)
			g.cutOff()
			g.unaccepted(err)
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			g.log.Info("guest could not connect to the bus", "guest", g.id.Instance, "err", err)
			g.unaccepted(err)
			g.busy.Store(hungUp(err))
			g.look()
		}),
	}
}

func urls(addresses []string) []string {
	all := make([]string, 0, len(addresses))
	for _, a := range addresses {
		all = append(all, "tls://"+a)
	}
	return all
}

// jwt is asked by the client library with each connect.
func (g *GuestConn) jwt() (string, error) {
	c, err := g.id.credential()
	if err != nil {
		return "", err
	}
	return c.JWT, nil
}

// nextServer chooses a broker and the pause before it: a broker that the guest was not connected to if there is one, because the one it was
// connected to has just gone; and a random time, because all guests of that broker come at once.
func (g *GuestConn) nextServer(servers []nats.Server, last nats.ServerInfo) (*nats.Server, time.Duration) {
	if len(servers) == 0 {
		return nil, 0
	}
	attempts := 0
	var others []int
	for i := range servers {
		attempts = max(attempts, servers[i].Reconnects)
		if servers[i].URL.Host != net.JoinHostPort(last.Host, strconv.Itoa(last.Port)) && servers[i].Reconnects == 0 {
			others = append(others, i)
		}
	}
	chosen := rand.IntN(len(servers)) //nolint:gosec // a choice of brokers is no secret
	if len(others) > 0 {
		chosen = others[rand.IntN(len(others))] //nolint:gosec // the same
	}
	if g.now.Swap(false) {
		return &servers[chosen], 0
	}
	pause := time.Duration(rand.Int64N(g.jitter.Load())) //nolint:gosec // the same
	if attempts > 0 {
		pause += reconnectWait
	}
	return &servers[chosen], pause
}

// SetJitter sets the most that is waited at random before a reconnect; below 1 s is 1 s.
func (g *GuestConn) SetJitter(most time.Duration) { g.jitter.Store(int64(max(most, minJitter))) }

// Server returns the address of the broker that the guest is connected to; "" if it is not.
func (g *GuestConn) Server() string {
	u, err := url.Parse(g.nc.ConnectedUrl())
	if err != nil {
		return ""
	}
	return u.Host
}

// Sign signs a text with the guest's own key, the one that its credential is for. The text must begin with words that say what the signature is for, so that
// it is worth nothing elsewhere.
func (g *GuestConn) Sign(text []byte) ([]byte, error) { return g.id.key.Sign(text) }

// CABundle returns the certificates, PEM, that the guest trusts at the moment: those of the newest credential.
func (g *GuestConn) CABundle() (string, error) {
	c, err := g.id.credential()
	if err != nil {
		return "", err
	}
	return c.CABundle, nil
}

// Addresses returns where the brokers are, host and port, as the newest credential says.
func (g *GuestConn) Addresses() ([]string, error) {
	c, err := g.id.credential()
	if err != nil {
		return nil, err
	}
	return c.Addresses, nil
}

// Close implements bus.Conn.
func (g *GuestConn) Close() error {
	g.once.Do(g.stop)
	err := g.Conn.Close()
	g.workers.Wait()
	return err
}
