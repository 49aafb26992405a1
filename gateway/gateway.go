// Package gateway is the object gateway: guests read and write objects through it, and need no right for the store behind it.
//
// It is an HTTPS server on the management network. A request carries a grant, made by a controller for one guest, one method, one prefix, an amount and a time, and
// the guest's signature over it and over the TLS connection: a grant that leaks is worth nothing to another guest. What is written once under a grant is not
// replaced. Every guest has its own limits, so that a slow or hostile one delays nobody. The server's methods may be called from several goroutines.
package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/gateway/grant"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/store"
)

// Config is what a gateway needs. All fields but URLs, Own, Limits, Clock and Metrics must be set.
type Config struct {
	Listen string   // host:port on the management network; port 0 takes a free one
	URLs   []string // where guests find it, by default what is listened on
	TLS    *tls.Config
	Grants Grants
	Store  backupstore.Store
	Own    backupstore.Store // of containers that are the deployment's and no project's; nil: there are none
	State  State
	Limits Limits

	Log     *slog.Logger
	Clock   clock.Clock           // nil: the machine's
	Metrics prometheus.Registerer // nil: none
}

// Grants reads tokens.
type Grants interface {
	Verify(token string) (grant.Grant, error)
}

// State is what the gateway asks of the store of the control plane.
type State interface {
	// Guest returns the guest of a living instance, with the key that it has now.
	Guest(ctx context.Context, instance string) (store.Guest, error)
	Operation(ctx context.Context, id string) (trove.Operation, error)
}

// Limits are those of one guest. Zero values: the defaults.
type Limits struct {
	BytesPerSecond int           // each way; 64 MiB
	Requests       float64       // a second; 50, with a burst of twice as many
	Transfers      int           // at once; 4
	Connections    int           // at once, from one address; 16
	MinRate        int           // bytes a second below which a transfer is cut; 16 KiB
	Grace          time.Duration // before MinRate applies; 10 s
}

func (l Limits) withDefaults() Limits {
	l.BytesPerSecond = or(l.BytesPerSecond, 64<<20)
	l.Requests = or(l.Requests, 50)
	l.Transfers = or(l.Transfers, 4)
	l.Connections = or(l.Connections, 16)
	l.MinRate = or(l.MinRate, 16<<10)
	l.Grace = or(l.Grace, 10*time.Second)
	return l
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// Gateway is a running gateway.
type Gateway struct {
	cfg     Config
	log     *slog.Logger
	urls    []string
	server  *http.Server
	metrics *metrics
	guests  *guests
	budgets *budgets
	told    *quiet
	done    sync.WaitGroup
}

const (
	headerTimeout = 5 * time.Second
	idleTimeout   = 30 * time.Second
	maxHeaders    = 8 << 10
	closeTimeout  = 5 * time.Second
)

// Start listens and serves until Close; ctx only bounds the start.
func Start(ctx context.Context, cfg Config) (*Gateway, error) {
	if cfg.Clock == nil {
		cfg.Clock = clock.System{}
	}
	cfg.Limits = cfg.Limits.withDefaults()
	g := &Gateway{cfg: cfg, log: cfg.Log, urls: cfg.URLs, guests: newGuests(cfg.Limits), told: newQuiet(cfg.Clock)}
	g.budgets = newBudgets(g.storeOf)
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("start the object gateway on %s: %w", cfg.Listen, err)
	}
	if len(g.urls) == 0 {
		g.urls = []string{"https://" + listener.Addr().String()}
	}
	if g.metrics, err = newMetrics(cfg.Metrics); err != nil {
		_ = listener.Close()
		return nil, err
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // what guests speak; less for strangers to try
	g.server = &http.Server{
		Handler: g, TLSConfig: cfg.TLS, Protocols: protocols,
		ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaders, // bodies have deadlines of their own
		ErrorLog: slog.NewLogLogger(g.log.Handler(), slog.LevelDebug), // strangers with broken handshakes
	}
	guarded := &guardedListener{Listener: listener, limits: cfg.Limits, refused: func() { g.metrics.refused.WithLabelValues(reasonConnections).Inc() }}
	g.done.Go(func() {
		if err := g.server.ServeTLS(guarded, "", ""); !errors.Is(err, http.ErrServerClosed) {
			g.log.Error("object gateway ended", "err", err)
		}
	})
	g.log.InfoContext(ctx, "object gateway started", "urls", g.urls)
	return g, nil
}

// URLs returns where guests find the gateway.
func (g *Gateway) URLs() []string { return slices.Clone(g.urls) }

// storeOf returns where the objects of a container are.
func (g *Gateway) storeOf(c backupstore.Container) backupstore.Store {
	if c.Project != "" || g.cfg.Own == nil {
		return g.cfg.Store
	}
	return g.cfg.Own
}

func (g *Gateway) store(q *request) backupstore.Store { return g.storeOf(q.Container) }

// Close ends the gateway: transfers that do not end within 5 s are cut. It may be called twice.
func (g *Gateway) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := g.server.Shutdown(ctx)
	if err != nil {
		err = g.server.Close()
	}
	g.done.Wait()
	g.metrics.unregister()
	return err
}
