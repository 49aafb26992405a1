package natsbus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	trove "github.com/trove-dbaas/trove"
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
}

const (
	minJitter     = time.Second
	reconnectWait = 2 * time.Second // between attempts that failed, besides the jitter
)

// GuestConn is a guest's connection. It reconnects for ever, with whatever credential its directory holds at the time, and renews
// an old credential over HTTPS by itself when no controller has done so over the bus.
type GuestConn struct {
	*Conn
	id     *identity
	log    *slog.Logger
	clock  clock.Clock
	roots  atomic.Pointer[x509.CertPool]
	jitter atomic.Int64
	now    atomic.Bool // the next reconnect is wanted: no pause
	renews chan struct{}

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
	credential, err := id.credential()
	if err != nil {
		return nil, fmt.Errorf("join the bus: %w", err)
	}
	g := &GuestConn{id: id, log: o.Log, clock: o.Clock, renews: make(chan struct{}, 1)}
	if g.clock == nil {
		g.clock = clock.System{}
	}
	g.SetJitter(o.Jitter)
	if err := g.trust(credential); err != nil {
		return nil, fmt.Errorf("join the bus: %w", err)
	}
	ctx, g.stop = context.WithCancel(context.WithoutCancel(ctx))
	ready := make(chan struct{})
	defer close(ready)
	connected := func(*nats.Conn) {
		<-ready
		g.log.Info("guest connected to the bus", "guest", id.Instance)
		if o.OnConnect != nil && ctx.Err() == nil {
			o.OnConnect(ctx)
		}
	}
	g.Conn, err = Connect("", Settings{Log: o.Log}, g.options(credential, connected)...)
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
		nats.Secure(&tls.Config{MinVersion: tls.VersionTLS13, Time: certificateTime}),
		func(o *nats.Options) error {
			o.RootCAsCB = func() (*x509.CertPool, error) { return g.roots.Load(), nil }
			return nil
		},
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
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			g.log.Info("guest could not connect to the bus", "guest", g.id.Instance, "err", err)
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
		if servers[i].URL.Hostname() != last.Host && servers[i].Reconnects == 0 {
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

// ReplaceCredential stores the credential and connects anew with it, which interrupts for about 2 ms: call it between commands. A
// credential for another key is refused with KindBadRequest. It may be repeated.
func (g *GuestConn) ReplaceCredential(c bus.Credential) error {
	if err := g.id.store(c); err != nil {
		return fmt.Errorf("replace the credential: %w", err)
	}
	return g.reconnect(c)
}

func (g *GuestConn) reconnect(c bus.Credential) error {
	if err := g.trust(c); err != nil {
		return err
	}
	if err := g.nc.SetServerPool(urls(c.Addresses)); err != nil {
		return fmt.Errorf("use the addresses of the bus: %w", translate(err))
	}
	g.now.Store(true)
	if err := g.nc.ForceReconnect(); err != nil {
		return fmt.Errorf("connect anew: %w", translate(err))
	}
	g.look()
	return nil
}

func (g *GuestConn) trust(c bus.Credential) error {
	roots, err := pool(c.CABundle)
	if err != nil {
		return err
	}
	g.roots.Store(roots)
	return nil
}

// look makes keepCredential look again.
func (g *GuestConn) look() {
	select {
	case g.renews <- struct{}{}:
	default:
	}
}

// keepCredential renews over HTTPS when three quarters of the credential's life are over: controllers renew at half of it over the bus, so
// this is for guests that they did not reach, those that were asleep among them.
func (g *GuestConn) keepCredential(ctx context.Context) {
	failures := 0
	for {
		wait := g.untilRenewal()
		if wait <= 0 {
			wait = time.Second // also after a success: a clock that is wrong must not make this a storm
			if err := g.renew(ctx); err == nil {
				failures = 0
			} else if ctx.Err() == nil {
				failures++
				g.log.Warn("guest could not renew its credential", "guest", g.id.Instance, "err", err)
				wait = renewalPause(failures, trove.IsPermanent(err))
			}
			if clock.Sleep(ctx, wait) != nil {
				return
			}
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-g.renews:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (g *GuestConn) renew(ctx context.Context) error {
	c, err := g.id.renew(ctx)
	if err != nil {
		return err
	}
	g.log.Info("guest renewed its credential", "guest", g.id.Instance, "expires", c.Expires)
	return g.reconnect(c)
}

// renewalPause grows to a minute; a refusal may be lifted (an instance that is restored), but not soon.
func renewalPause(failures int, refused bool) time.Duration {
	pause := min(time.Second<<min(failures, 6), time.Minute)
	if refused {
		pause = time.Minute
	}
	return pause/2 + rand.N(pause) //nolint:gosec // a pause is no secret
}

// untilRenewal is at most a minute, so that a machine that slept looks soon after it woke.
func (g *GuestConn) untilRenewal() time.Duration {
	c, err := g.id.credential()
	if err != nil {
		return 0
	}
	issued, expires, err := lifetime(c)
	if err != nil {
		return 0
	}
	due := expires.Add(-expires.Sub(issued) / 4)
	return min(due.Sub(g.clock.Now()), time.Minute)
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
