package osclient

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/trove-dbaas/trove/internal/clock"
)

// serviceHeader tells the wire which service a request is for. It never leaves the process.
const serviceHeader = "X-Trove-Service"

// maxAnswer bounds what is read of an answer that is no stream.
const maxAnswer = 32 << 20

// wire is what all requests go through: a deadline for each, counters, and a line in the log when a service goes away and when it is back.
type wire struct {
	transport *http.Transport
	timeout   time.Duration
	log       *slog.Logger
	metrics   *metrics

	mu   sync.Mutex
	away map[string]bool // services that did not answer last
}

var _ http.RoundTripper = (*wire)(nil)

func newWire(cfg Config) (*wire, error) {
	t, err := transport(cfg)
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	return &wire{transport: t, timeout: cfg.Timeout, log: cfg.Log, metrics: m, away: map[string]bool{}}, nil
}

// RoundTrip is http.RoundTripper.RoundTrip.
func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	kind := r.Header.Get(serviceHeader)
	ctx, cancel := r.Context(), context.CancelFunc(func() {})
	if !services[kind].streams {
		ctx, cancel = context.WithTimeout(ctx, w.timeout)
	}
	sent := r.Clone(ctx)
	sent.Header.Del(serviceHeader)
	took := clock.Stopwatch()
	resp, err := w.transport.RoundTrip(sent)
	status := 0
	if err == nil {
		status = resp.StatusCode
	}
	w.metrics.observe(kind, r.Method, status, took())
	w.tell(r.Context(), kind, status, err)
	if err != nil {
		cancel()
		return nil, err
	}
	body := io.Reader(resp.Body)
	if !services[kind].streams {
		body = io.LimitReader(resp.Body, maxAnswer)
	}
	resp.Body = &answerBody{Reader: body, Closer: resp.Body, cancel: cancel, read: func(n int) { w.metrics.read(kind, r.Method, n) }}
	return resp, nil
}

// answerBody counts what is read, and ends the deadline of its request when it is closed.
type answerBody struct {
	io.Reader
	io.Closer
	cancel context.CancelFunc
	read   func(n int)
}

// Read is io.Reader.Read.
func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.read(n)
	return n, err
}

// Close is io.Closer.Close.
func (b *answerBody) Close() error {
	defer b.cancel()
	return b.Closer.Close()
}

// tell writes to the log when a service goes away and when it is back. A caller who does not wait says nothing about the service.
func (w *wire) tell(ctx context.Context, kind string, status int, err error) {
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	away := err != nil || status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
	w.mu.Lock()
	before := w.away[kind]
	w.away[kind] = away
	w.mu.Unlock()
	switch {
	case away && !before:
		w.log.WarnContext(ctx, "service of OpenStack does not answer: what needs it waits", "service", services[kind].name, "status", status, "err", err)
	case before && !away:
		w.log.InfoContext(ctx, "service of OpenStack answers again", "service", services[kind].name)
	}
}
