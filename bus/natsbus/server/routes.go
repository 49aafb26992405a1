package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
)

// routeOptions joins the other brokers of the deployment: those in the store at this moment. Who comes later connects to this one, and brokers tell
// each other of further ones. A route that breaks is tried again by the side that began it, for ever.
func (s *Server) routeOptions(ctx context.Context, opts *natsserver.Options) error {
	if s.cfg.RouteListen == "" {
		return nil
	}
	host, port, err := splitListen(s.cfg.RouteListen)
	if err != nil {
		return fmt.Errorf("address for other brokers: %w", err)
	}
	opts.Cluster.Name = "trove"
	opts.Cluster.Host, opts.Cluster.Port = host, port
	opts.Cluster.TLSConfig, opts.Cluster.TLSTimeout, opts.Cluster.AuthTimeout = s.leaf.routes(), 10, 10 // seconds
	opts.Cluster.NoAdvertise = true                                                                     // where the bus is guests are told in their credentials
	opts.Cluster.PingInterval, opts.Cluster.MaxPingsOut = 5*time.Second, 2
	opts.Cluster.PoolSize = 1
	opts.Cluster.Compression.Mode = natsserver.CompressionOff
	s.routeURL = s.cfg.RouteURL
	if s.routeURL == "" && port > 0 {
		s.routeURL = "tls://" + s.cfg.RouteListen
	}
	// Two that start at the same moment: each writes its own row before it reads, so that one of them sees the other.
	if s.routeURL != "" {
		if err := s.putFirst(ctx); err != nil {
			return fmt.Errorf("tell other brokers of this one: %w", err)
		}
	}
	rows, err := s.cfg.Repository.Controllers(ctx)
	if err != nil {
		return fmt.Errorf("look up other brokers: %w", err)
	}
	for _, text := range otherRoutes(rows, s.cfg.ID, s.cfg.Clock.Now()) {
		u, err := url.Parse(text)
		if err != nil {
			s.log.WarnContext(ctx, "address of another broker cannot be read", "url", text, "err", err)
			continue
		}
		opts.Routes = append(opts.Routes, u)
	}
	return nil
}

// putFirst writes this broker's row before it listens. What guests were told of it stays until it does.
func (s *Server) putFirst(ctx context.Context) error {
	rows, err := s.cfg.Repository.Controllers(ctx)
	if err != nil {
		return err
	}
	first := ControllerRow{ID: s.cfg.ID, Clients: s.cfg.Addresses, Enrol: s.cfg.EnrolURLs, Objects: s.cfg.Objects, Control: s.cfg.ControlListen, Host: s.cfg.Host}
	for _, r := range rows {
		if r.ID == first.ID {
			first = r
		}
	}
	first.RouteURL, first.SeenAt = s.routeURL, s.cfg.Clock.Now()
	return s.cfg.Repository.PutController(ctx, first)
}

// splitListen returns host and port of an address to listen on; a free port for 0.
func splitListen(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("port: %w", err)
	}
	if n == 0 {
		return host, natsserver.RANDOM_PORT, nil
	}
	return host, int(n), nil
}

// forwarder serves the bus on an address that it had in the past: bytes go to and fro.
type forwarder struct {
	listener net.Listener
	to       string
	log      *slog.Logger
	done     sync.WaitGroup

	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
}

func forward(ctx context.Context, address, to string, log *slog.Logger) (*forwarder, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on the former address %s: %w", address, err)
	}
	f := &forwarder{listener: l, to: to, log: log, open: map[net.Conn]struct{}{}}
	f.done.Go(f.accept)
	return f, nil
}

func (f *forwarder) accept() {
	for {
		c, err := f.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			f.log.Warn("connection to a former address of the bus was not accepted", "err", err)
			return
		}
		f.done.Go(func() { f.serve(c) })
	}
}

func (f *forwarder) serve(c net.Conn) {
	defer c.Close()
	b, err := (&net.Dialer{Timeout: 5 * time.Second}).Dial("tcp", f.to)
	if err != nil {
		f.log.Warn("connection to a former address of the bus was not forwarded", "err", err)
		return
	}
	defer b.Close()
	if !f.keep(c, b) {
		return
	}
	defer f.drop(c, b)
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(c, b) // whoever ends, both ends
		_ = c.Close()
	})
	_, _ = io.Copy(b, c)
	_ = b.Close()
	back.Wait()
}

func (f *forwarder) keep(conns ...net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range conns {
		f.open[c] = struct{}{}
	}
	return !f.closed
}

func (f *forwarder) drop(conns ...net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range conns {
		delete(f.open, c)
	}
}

func (f *forwarder) close() {
	_ = f.listener.Close()
	f.mu.Lock()
	f.closed = true
	for c := range f.open {
		_ = c.Close()
	}
	f.mu.Unlock()
	f.done.Wait()
}
