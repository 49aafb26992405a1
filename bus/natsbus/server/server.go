// Package server is the broker of the bus, inside the controller's process: NATS core with identities for guests, the endpoint where guests
// enrol, and guards against guests that misbehave.
//
// A guest's credential reaches its own subjects and nothing else. The rights are in the account (two scoped signing keys), not in the
// credential; strict signing keys make every other signature worthless. Whoever can read the deployment's keys can be any guest.
// Everything may be used from several goroutines.
package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/natsbus"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/keyfile"
)

// Config is what a broker needs. Keys, Listen, EnrolListen, Repository, Guests and Log must be set.
type Config struct {
	Keys        keyfile.Keeper // of the deployment: bus.json and bus-ca.pem, made with the first start
	Listen      string         // host:port of the bus; port 0 takes a free one
	EnrolListen string         // host:port of the enrolment endpoint
	// Names are further host names and addresses for the certificate, besides those listened on, localhost, 127.0.0.1 and ::1.
	Names []string
	// Addresses and EnrolURLs are what guests are told; by default what is listened on. They must be set if that is no address of one host.
	Addresses  []string
	EnrolURLs  []string
	Repository Repository
	Guests     Guests
	Log        *slog.Logger
	Clock      clock.Clock           // nil: the machine's
	Metrics    prometheus.Registerer // nil: none
	// CredentialLife is how long a guest's credential is good; 0: 24 h.
	CredentialLife time.Duration
	// CertificateLife and CALife are those of the certificates made from now on; 0: DefaultCertificateLife and DefaultCALife.
	CertificateLife, CALife time.Duration

	// ID names this broker among those of the deployment, the same after a restart; "": trove.
	ID string
	// RouteListen is host:port where other brokers of the deployment connect, with certificates of its CA; "": there are no others.
	RouteListen string
	// RouteURL is what other brokers are told, tls://host:port; "": what is listened on.
	RouteURL string
	// FormerListen and FormerEnrolListen are addresses that guests were told in the past: who calls there is served too, and told the present ones.
	FormerListen, FormerEnrolListen []string

	// ControlListen is host:port where controllers of other hosts reach the broker, where they do not reach Listen; "": they do.
	ControlListen string
	// Objects are the URLs of the object gateway beside this broker, Host the name of its machine, for the others.
	Objects []string
	Host    string
	// ClockAhead says how far this machine's clock is ahead of the database's; nil: it is not.
	ClockAhead func() time.Duration

	// Alarm is told what people must hear of; nil: the log and the metrics are all.
	Alarm func(ctx context.Context, a Alarm)
	// Limits on one guest; zero values: 2 connections, 20 messages/s, 256 KiB/s.
	Limits Limits
}

// AlarmKind says what a guest did, or what was done with what is the guest's alone.
type AlarmKind string

// The alarms.
const (
	AlarmReused AlarmKind = "enrolled twice" // with one token, by another key than the guest's
	AlarmFlood  AlarmKind = "flood"          // again and again; the key was revoked
)

// Alarm is about one guest.
type Alarm struct {
	Instance string
	Kind     AlarmKind
	Sentence string // what happened and what was done, for people
}

// Server is a broker with its enrolment endpoint. It implements bus.Issuer and bus.Enrolment.
type Server struct {
	cfg       Config
	log       *slog.Logger
	accounts  *accounts
	authority *authority
	leaf      *leaf
	broker    *natsserver.Server
	metrics   *metrics
	brokerLog *brokerLog
	guard     *guard
	enrol     *http.Server
	addresses []string // this broker's own
	enrolURLs []string
	routeURL  string
	told      atomic.Pointer[told]
	announced ControllerRow // this broker's row as it was written; of announce alone
	former    []*forwarder

	control        *natsbus.Conn
	accountChanged chan struct{}
	stop           context.CancelFunc
	workers        sync.WaitGroup

	mu    sync.Mutex
	conns []*natsbus.Conn
}

var (
	_ bus.Issuer    = (*Server)(nil)
	_ bus.Enrolment = (*Server)(nil)
	_ bus.Announcer = (*Server)(nil)
)

const startTimeout = 10 * time.Second

// Start starts the broker and its endpoint. It returns when guests can come. Close ends it; ctx only bounds the start.
func Start(ctx context.Context, cfg Config) (_ *Server, err error) {
	cfg = withDefaults(cfg)
	s := &Server{cfg: cfg, log: cfg.Log, accountChanged: make(chan struct{}, 1)}
	k, err := loadKeys(ctx, cfg.Keys)
	if err != nil {
		return nil, err
	}
	s.told.Store(&told{})
	if s.authority, err = loadAuthority(ctx, cfg.Keys, cfg.Clock, cfg.CALife, cfg.Log); err != nil {
		return nil, err
	}
	if s.accounts, err = newAccounts(k); err != nil {
		return nil, err
	}
	s.metrics = newMetrics(cfg.Metrics, s)
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	defer func() { //nolint:contextcheck // what was begun ends also after ctx has
		if err != nil {
			_ = s.Close()
		}
	}()
	revoked, err := cfg.Repository.RevokedKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the revoked keys: %w", err)
	}
	if _, err := s.accounts.setRevoked(revoked, cfg.Clock.Now()); err != nil {
		return nil, err
	}
	s.leaf = &leaf{authority: s.authority, names: s.certificateNames(), life: cfg.CertificateLife, clock: cfg.Clock}
	if err := s.startBroker(ctx); err != nil {
		return nil, fmt.Errorf("start the bus on %s: %w", cfg.Listen, err)
	}
	if err := s.startControl(ctx, background); err != nil {
		return nil, err
	}
	if err := s.startEnrolment(ctx); err != nil {
		return nil, fmt.Errorf("start the enrolment endpoint on %s: %w", cfg.EnrolListen, err)
	}
	if err := s.announce(ctx); err != nil {
		return nil, fmt.Errorf("tell other brokers of this one: %w", err)
	}
	s.workers.Go(func() { s.watchControllers(background) })
	s.workers.Go(func() { s.keepCA(background) })
	s.log.InfoContext(ctx, "bus started", "addresses", s.addresses, "enrolment", s.enrolURLs)
	return s, nil
}

// alarm tells whoever shall hear of it, without letting the caller wait for ever.
func (s *Server) alarm(ctx context.Context, a Alarm) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
	defer cancel()
	s.cfg.Alarm(ctx, a)
}

func withDefaults(cfg Config) Config {
	if cfg.Clock == nil {
		cfg.Clock = clock.System{}
	}
	if cfg.CredentialLife == 0 {
		cfg.CredentialLife = 24 * time.Hour
	}
	cfg.CertificateLife = cmp.Or(cfg.CertificateLife, DefaultCertificateLife)
	cfg.CALife = cmp.Or(cfg.CALife, DefaultCALife)
	cfg.ID = cmp.Or(cfg.ID, "trove")
	if cfg.ClockAhead == nil {
		cfg.ClockAhead = func() time.Duration { return 0 }
	}
	if cfg.Alarm == nil {
		cfg.Alarm = func(context.Context, Alarm) {}
	}
	cfg.Limits = cfg.Limits.withDefaults()
	return cfg
}

func (s *Server) certificateNames() []string {
	names := append([]string{"localhost", "127.0.0.1", "::1"}, s.cfg.Names...)
	told := slices.Concat(s.cfg.Addresses, []string{s.cfg.Listen, s.cfg.EnrolListen})
	for _, address := range told {
		if host, _, err := net.SplitHostPort(address); err == nil && host != "" && !slices.Contains(names, host) {
			names = append(names, host)
		}
	}
	return names
}

func (s *Server) startBroker(ctx context.Context) error {
	opts, err := s.brokerOptions()
	if err != nil {
		return err
	}
	if err := s.routeOptions(ctx, opts); err != nil {
		return err
	}
	if s.broker, err = natsserver.NewServer(opts); err != nil {
		return err
	}
	log := newBrokerLog(s.log, s.metrics)
	s.brokerLog = log
	s.broker.SetLoggerV2(log, false, false, false)
	s.broker.Start()
	deadline, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for !s.broker.ReadyForConnections(50 * time.Millisecond) {
		if text := log.fatal(); text != "" {
			return errors.New(text)
		}
		if err := deadline.Err(); err != nil {
			return fmt.Errorf("wait for the broker to listen: %w", err)
		}
	}
	if s.addresses, err = toldOf(s.cfg.Addresses, s.broker.Addr(), ""); err != nil {
		return err
	}
	if s.cfg.RouteListen != "" && s.routeURL == "" {
		s.routeURL = "tls://" + s.broker.ClusterAddr().String()
	}
	for _, address := range s.forwarded() {
		f, err := forward(ctx, address, s.broker.Addr().String(), s.log)
		if err != nil {
			return err
		}
		s.former = append(s.former, f)
	}
	return nil
}

// forwarded are the other addresses where the bus is served.
func (s *Server) forwarded() []string {
	if s.cfg.ControlListen == "" {
		return s.cfg.FormerListen
	}
	return append(slices.Clone(s.cfg.FormerListen), s.cfg.ControlListen)
}

// toldOf returns what guests are told about a listener.
func toldOf(configured []string, listening net.Addr, prefix string) ([]string, error) {
	if len(configured) > 0 {
		return configured, nil
	}
	tcp, ok := listening.(*net.TCPAddr)
	if !ok || tcp.IP.IsUnspecified() {
		return nil, trove.Errorf(trove.KindBadRequest, "The address %s is none that guests can be told: set the addresses.", listening)
	}
	return []string{prefix + tcp.String()}, nil
}

// brokerOptions are the settings that bus-and-operations measured. Everything that is not set here is off: JetStream, websocket, leaf
// nodes, MQTT, gateways, monitoring over HTTP.
func (s *Server) brokerOptions() (*natsserver.Options, error) {
	host, port, err := splitListen(s.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("address to listen on: %w", err)
	}
	opts := &natsserver.Options{}
	// The rate limit has to come from a configuration text: set as a field it makes NewServer dereference a nil pointer. Handshakes
	// cost about 0.8 ms each; beyond this rate all work of a reconnect storm is thrown away.
	text := fmt.Sprintf("tls { connection_rate_limit: %d }", 500*runtime.GOMAXPROCS(0))
	if err := opts.ProcessConfigString(text); err != nil {
		return nil, fmt.Errorf("limit the rate of handshakes: %w", err)
	}
	operator, err := s.accounts.operator()
	if err != nil {
		return nil, err
	}
	opts.ServerName = s.cfg.ID + "-" + trove.NewID()[:8] // another one than before a restart: the other brokers may not have missed it yet
	opts.Host, opts.Port = host, port
	opts.NoSigs, opts.NoLog = true, true // signals and logs are the process's own matter
	opts.TrustedOperators = append(opts.TrustedOperators, operator)
	opts.SystemAccount = public(s.accounts.keys.system)
	opts.AccountResolver = s.accounts.resolver
	opts.TLSConfig = s.leaf.config()
	opts.TLSTimeout, opts.AuthTimeout = 10, 10 // seconds; the default of 2 s is too short for a storm
	opts.MaxConn = 18000
	opts.MaxSubs, opts.MaxSubTokens = 64, 8
	opts.MaxPayload = guestapi.MaxMessage
	opts.MaxPending = 4 << 20
	opts.PingInterval, opts.MaxPingsOut = 15*time.Second, 2
	opts.WriteDeadline = 5 * time.Second
	// Who sends faster than the conductor's connection takes is held back, some milliseconds for each 64 KiB. Without this the broker drops what is above half
	// of MaxPending, the neighbours' reports as well, and says it nowhere.
	opts.NoFastProducerStall = false
	opts.MaxClosedClients = 100
	opts.LameDuckGracePeriod, opts.LameDuckDuration = 200*time.Millisecond, 1200*time.Millisecond
	return opts, nil
}

// startControl opens the broker's own connections: the guard's, and the one for news of the account.
func (s *Server) startControl(ctx, background context.Context) error {
	control, err := s.connect("control")
	if err != nil {
		return err
	}
	s.control = control
	_, err = control.Subscribe(ctx, guestapi.AccountSubject, "", func(context.Context, bus.Message) {
		select {
		case s.accountChanged <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return fmt.Errorf("listen for revoked keys: %w", err)
	}
	s.workers.Go(func() { s.watchRevoked(background) })
	s.guard = newGuard(s)
	s.brokerLog.guard.Store(s.guard)
	if err := s.guard.start(ctx, background); err != nil {
		return fmt.Errorf("start the guard of the bus: %w", err)
	}
	return nil
}

// Addresses returns the addresses of the bus that guests are told, this broker's first.
func (s *Server) Addresses() []string { return slices.Clone(s.told.Load().addresses) }

// EnrolURLs implements bus.Enrolment.
func (s *Server) EnrolURLs() []string { return slices.Clone(s.told.Load().enrolURLs) }

// CABundle implements bus.Enrolment.
func (s *Server) CABundle() string { return s.authority.bundle() }

// TLSConfig returns how another server of this process, on the same host address, presents itself to guests: with a certificate of the deployment's own
// authority, which is replaced before it expires. It may be called several times.
func (s *Server) TLSConfig() *tls.Config { return s.leaf.config() }

// Close ends the endpoint, the connections of this process and the broker, in this order. If there are other brokers guests are sent to them one by one,
// which takes about a second. It may be called twice.
func (s *Server) Close() error {
	if s.enrol != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		if s.enrol.Shutdown(ctx) != nil {
			_ = s.enrol.Close()
		}
		cancel()
	}
	s.stop()
	s.workers.Wait()
	if s.guard != nil {
		s.guard.close()
	}
	s.mu.Lock()
	conns := s.conns
	s.conns = nil
	s.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
	for _, f := range s.former {
		f.close()
	}
	if s.broker != nil {
		if s.broker.NumRemotes() > 0 {
			s.broker.LameDuckShutdown()
		}
		s.broker.Shutdown()
		s.broker.WaitForShutdown()
	}
	s.metrics.unregister()
	return nil
}
