// Package telemetry is how components say what they do: structured logs with a fixed key list, request ids that go from the API call to the
// guest, and the metrics registry.
//
// Log keys: req, project, instance, op, step, guest, engine, err, took. Messages are constant, lower case, past tense, without values in them.
// Everything may be used from several goroutines.
package telemetry

import (
	"context"
	"io"
	"log/slog"

	trove "github.com/trove-dbaas/trove"
)

type requestIDKey struct{}

// NewRequestID returns a new request id in OpenStack's form.
func NewRequestID() string { return "req-" + trove.NewID() }

// WithRequestID puts a request id into the context; every log line of NewLogger made with that context carries it.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// RequestID returns the context's request id, "" if there is none.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// NewLogger returns a logger that writes JSON ("json") or text (anything else) and adds the request id of the context.
func NewLogger(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(w, opts)
	if format == "json" {
		h = slog.NewJSONHandler(w, opts)
	}
	return slog.New(requestIDHandler{h})
}

type requestIDHandler struct{ slog.Handler }

func (h requestIDHandler) Handle(ctx context.Context, r slog.Record) error {
	if id := RequestID(ctx); id != "" {
		r.AddAttrs(slog.String("req", id))
	}
	return h.Handler.Handle(ctx, r) //nolint:wrapcheck // a handler hands on
}

func (h requestIDHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return requestIDHandler{h.Handler.WithAttrs(attrs)}
}

func (h requestIDHandler) WithGroup(name string) slog.Handler {
	return requestIDHandler{h.Handler.WithGroup(name)}
}
