package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/natsbus"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/keyfile"
)

// ControllerConfig says how a controller in another process than the broker's joins. Keys, Address, Name and Log must be set.
type ControllerConfig struct {
	Keys keyfile.Keeper // the deployment's, as in Config
	// Address returns host:port of the bus. It is asked before each attempt to connect, so that it may become known later, or change.
	Address func() (string, error)
	Name    string // lower-case letters, digits and dashes; two connections may share it
	Log     *slog.Logger
	Clock   clock.Clock           // nil: the machine's
	Metrics prometheus.Registerer // nil: none
	// CredentialLife is how long a credential of the connection is good, an hour if 0. It is renewed before.
	CredentialLife time.Duration
	// CALife is that of the CA, if this is the first to need one; 0: DefaultCALife.
	CALife time.Duration
}

// Controller is a connection of a controller from another process. It reconnects for ever, each time with an identity that it makes itself: who can
// read the keys of the deployment is a controller of it.
type Controller struct {
	*natsbus.Conn
	cfg  ControllerConfig
	keys *keys
	pair nkeys.KeyPair
	name string

	asking sync.RWMutex // held for reading by each request: a renewal would fail it

	mu      sync.Mutex
	expires time.Time // of the credential that the connection has
	warned  time.Time // when it was last said that the bus cannot be reached
	stop    context.CancelFunc
	done    sync.WaitGroup
	dropped prometheus.Collector
}

var _ bus.Conn = (*Controller)(nil)

const (
	controllerLife = time.Hour
	quiet          = 20 * time.Millisecond // between looks whether no request waits
	reconnectLimit = 2 * time.Second       // how long requests are held back while the connection is renewed
)

// DialController connects a controller in another process of the same deployment. It returns without waiting for the broker, which may be started
// later; until then Publish and Request are errors that pass, and subscriptions begin with the connection. Like the connections inside the
// broker's process it never answers to a reply subject. Keys that are missing are made, as the broker does.
func DialController(ctx context.Context, cfg ControllerConfig) (*Controller, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("connect to the bus: %w", err)
	}
	if !controllerName.MatchString(cfg.Name) {
		return nil, trove.Errorf(trove.KindBadRequest, "%q cannot be the name of a connection.", cfg.Name)
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.System{}
	}
	cfg.CredentialLife, cfg.CALife = cmp.Or(cfg.CredentialLife, controllerLife), cmp.Or(cfg.CALife, DefaultCALife)
	c := &Controller{cfg: cfg, name: cfg.Name + "-" + trove.NewID()} // the inbox is named after it
	var err error
	if c.keys, err = loadKeys(ctx, cfg.Keys); err != nil {
		return nil, err
	}
	authority, err := loadAuthority(ctx, cfg.Keys, cfg.Clock, cfg.CALife, cfg.Log)
	if err != nil {
		return nil, err
	}
	if c.pair, err = nkeys.CreateUser(); err != nil {
		return nil, fmt.Errorf("make a key for connection %s: %w", c.name, err)
	}
	if c.Conn, err = natsbus.Connect(brokerURL, natsbus.Settings{Log: cfg.Log, NeverReply: true}, c.options(authority)...); err != nil {
		return nil, err
	}
	if err := c.register(); err != nil {
		return nil, errors.Join(err, c.Conn.Close())
	}
	ctx, c.stop = context.WithCancel(context.WithoutCancel(ctx))
	c.done.Go(func() { c.renew(ctx) })
	return c, nil
}

// brokerURL is the name by which the broker's certificate is checked: every broker of the deployment has it. Where it is says dial.
const brokerURL = "tls://127.0.0.1:4222"

func (c *Controller) options(a *authority) []nats.Option {
	return []nats.Option{
		nats.Name(c.name),
		nats.CustomInboxPrefix(inboxPrefix(c.name)),
		nats.UserJWT(c.credential, c.pair.Sign),
		nats.Secure(&tls.Config{MinVersion: tls.VersionTLS13, Time: c.cfg.Clock.Now}),
		func(o *nats.Options) error {
			o.RootCAsCB = func() (*x509.CertPool, error) { return a.current().pool(), nil } // it may have been replaced
			return nil
		},
		nats.SetCustomDialer(dialer{c.cfg.Address}),
		nats.MaxReconnects(-1),
		nats.RetryOnFailedConnect(true),
		nats.IgnoreAuthErrorAbort(),
		nats.IgnoreDiscoveredServers(),
		nats.Timeout(5 * time.Second),
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.ReconnectBufSize(-1), // what cannot be sent now is an error now
		nats.ReconnectWait(200 * time.Millisecond),
		nats.ReconnectJitter(200*time.Millisecond, 200*time.Millisecond),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				c.cfg.Log.Warn("connection to the bus was lost", "conn", c.cfg.Name, "err", err)
			}
		}),
		nats.ReconnectErrHandler(c.unreachable),
		nats.ConnectHandler(c.connected),
		nats.ReconnectHandler(c.connected),
	}
}

func (c *Controller) connected(*nats.Conn) {
	c.cfg.Log.Info("connected to the bus", "conn", c.cfg.Name)
}

// unreachable warns once a minute at most: attempts are many.
func (c *Controller) unreachable(_ *nats.Conn, err error) {
	now := c.cfg.Clock.Now()
	c.mu.Lock()
	tell := now.Sub(c.warned) >= time.Minute
	if tell {
		c.warned = now
	}
	c.mu.Unlock()
	level := slog.LevelDebug
	if tell {
		level = slog.LevelWarn
	}
	c.cfg.Log.Log(context.Background(), level, "bus could not be reached", "conn", c.cfg.Name, "err", err)
}

// dialer connects to where the bus is at the moment.
type dialer struct{ address func() (string, error) }

// Dial implements nats.CustomDialer.
func (d dialer) Dial(network, _ string) (net.Conn, error) {
	address, err := d.address()
	if err != nil {
		return nil, fmt.Errorf("find the bus: %w", err)
	}
	return natsbus.Dialer().DialContext(context.Background(), network, address)
}

// credential makes a new identity; the client library asks with each connect.
func (c *Controller) credential() (string, error) {
	expires := c.cfg.Clock.Now().Add(c.cfg.CredentialLife)
	text, err := c.keys.controller(c.name, public(c.pair), expires)
	if err != nil {
		return "", fmt.Errorf("make an identity for connection %s: %w", c.name, err)
	}
	c.mu.Lock()
	c.expires = expires
	c.mu.Unlock()
	return text, nil
}

// Request implements bus.Conn.
func (c *Controller) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	c.asking.RLock()
	defer c.asking.RUnlock()
	return c.Conn.Request(ctx, subject, data)
}

// renew connects with a new identity when three quarters of the old one's life are over: between requests if there is a pause until seven eighths
// are, else then.
func (c *Controller) renew(ctx context.Context) {
	for {
		c.mu.Lock()
		left := c.expires.Sub(c.cfg.Clock.Now())
		c.mu.Unlock()
		if wait := left - c.cfg.CredentialLife/4; wait > 0 {
			if clock.Sleep(ctx, min(wait, time.Minute)) != nil { // a machine that slept looks soon after it woke
				return
			}
			continue
		}
		patient := left > c.cfg.CredentialLife/8
		if patient && !c.asking.TryLock() {
			if clock.Sleep(ctx, quiet) != nil {
				return
			}
			continue
		}
		c.reconnect(ctx)
		if patient {
			c.asking.Unlock()
		}
		if clock.Sleep(ctx, min(time.Second, c.cfg.CredentialLife/16)) != nil { // a broker that is away makes no storm
			return
		}
	}
}

func (c *Controller) reconnect(ctx context.Context) {
	if !c.Connected() {
		return // the next connect brings a new identity
	}
	if err := c.Reconnect(); err != nil {
		c.cfg.Log.WarnContext(ctx, "identity on the bus could not be renewed", "conn", c.cfg.Name, "err", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, reconnectLimit)
	defer cancel()
	for !c.Connected() {
		if clock.Sleep(ctx, time.Millisecond) != nil {
			return
		}
	}
	c.cfg.Log.DebugContext(ctx, "identity on the bus was renewed", "conn", c.cfg.Name)
}

func (c *Controller) register() error {
	if c.cfg.Metrics == nil {
		return nil
	}
	c.dropped = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "trove_bus_dropped_messages", Help: "Messages lost because handlers in this process were too slow.",
		ConstLabels: prometheus.Labels{"conn": c.cfg.Name},
	}, func() float64 { return float64(c.Dropped()) })
	if err := c.cfg.Metrics.Register(c.dropped); err != nil {
		return fmt.Errorf("register the metrics of connection %s: %w", c.cfg.Name, err)
	}
	return nil
}

// Close implements bus.Conn. It may be called twice.
func (c *Controller) Close() error {
	c.stop()
	c.done.Wait()
	if c.dropped != nil {
		c.cfg.Metrics.Unregister(c.dropped)
	}
	return c.Conn.Close()
}
