package server

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"golang.org/x/time/rate"
)

// brokerLog gives the broker's messages to our log. What a guest can provoke is limited in rate: the log must not be the way to fill
// a disk. What the broker refused is counted as well, each time.
type brokerLog struct {
	log       *slog.Logger
	limit     *rate.Limiter
	metrics   *metrics
	guard     atomic.Pointer[guard] // nil until there is one
	fatalText atomic.Pointer[string]
}

var _ natsserver.Logger = (*brokerLog)(nil)

func newBrokerLog(log *slog.Logger, m *metrics) *brokerLog {
	return &brokerLog{log: log, limit: rate.NewLimiter(10, 100), metrics: m}
}

// Noticef implements natsserver.Logger. A connection that was cut because it did not keep up has lost what waited for it, which is no mere notice.
func (b *brokerLog) Noticef(format string, v ...any) {
	level := slog.LevelDebug
	if strings.Contains(format, "Slow Consumer") {
		level = slog.LevelWarn
	}
	b.write(level, format, v)
}

// Warnf implements natsserver.Logger. That the broker does not verify other brokers by itself is no news: verifyBroker does.
func (b *brokerLog) Warnf(format string, v ...any) {
	if !strings.HasPrefix(format, "TLS certificate chain and hostname of solicited routes") {
		b.write(slog.LevelWarn, format, v)
	}
}

// Errorf implements natsserver.Logger. What the broker calls an error is a client that did something wrong.
func (b *brokerLog) Errorf(format string, v ...any) { b.write(slog.LevelWarn, format, v) }

// Fatalf implements natsserver.Logger. The broker expects the process to end; Start returns the text as an error instead.
func (b *brokerLog) Fatalf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	b.fatalText.CompareAndSwap(nil, &text)
	b.log.Error("broker failed", "text", text)
}

// Debugf implements natsserver.Logger.
func (b *brokerLog) Debugf(format string, v ...any) { b.write(slog.LevelDebug, format, v) }

// Tracef implements natsserver.Logger. Traces would hold the content of messages, which is nobody's business.
func (b *brokerLog) Tracef(string, ...any) {}

func (b *brokerLog) write(level slog.Level, format string, v []any) {
	if level < slog.LevelWarn && !b.log.Enabled(context.Background(), level) {
		return
	}
	text := fmt.Sprintf(format, v...)
	reason := refusal(text)
	if reason != "" {
		b.metrics.refused.WithLabelValues(reason).Inc()
	}
	if !b.limit.Allow() {
		return
	}
	if reason == "" {
		b.log.Log(context.Background(), level, "broker reported", "text", text)
		return
	}
	instance := ""
	if g := b.guard.Load(); g != nil {
		instance = g.instanceIn(text)
	}
	b.log.Log(context.Background(), level, "broker refused a client", "instance", instance, "reason", reason, "text", text)
}

func (b *brokerLog) fatal() string {
	if p := b.fatalText.Load(); p != nil {
		return *p
	}
	return ""
}
