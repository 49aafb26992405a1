package api

import (
	"context"
	"errors"
	"net/http"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/internal/telemetry"
)

// fault is an error's status and the key of its body.
type fault struct {
	status int
	name   string
}

// faults is the one table from kinds to HTTP.
var faults = map[trove.Kind]fault{
	trove.KindInternal:       {http.StatusInternalServerError, "instanceFault"},
	trove.KindBadRequest:     {http.StatusBadRequest, "badRequest"},
	trove.KindUnauthorized:   {http.StatusUnauthorized, "unauthorized"},
	trove.KindForbidden:      {http.StatusForbidden, "forbidden"},
	trove.KindNotFound:       {http.StatusNotFound, "itemNotFound"},
	trove.KindConflict:       {http.StatusConflict, "conflict"},
	trove.KindOverLimit:      {http.StatusRequestEntityTooLarge, "overLimit"},
	trove.KindMediaType:      {http.StatusUnsupportedMediaType, "badMediaType"},
	trove.KindUnprocessable:  {http.StatusUnprocessableEntity, "unprocessableEntity"},
	trove.KindNotImplemented: {http.StatusNotImplemented, "notImplemented"},
	trove.KindUnavailable:    {http.StatusServiceUnavailable, "serviceUnavailable"},
}

// statusClientGone is what the access log shows for a request that the client gave up; nobody receives it.
const statusClientGone = 499

var errNoRoute = trove.Errorf(trove.KindNotFound, "The resource could not be found.")

// writeError answers with the fault that fits err and logs what users must not see.
func (s *server) writeError(ctx context.Context, w http.ResponseWriter, err error) {
	kind := trove.KindOf(err)
	message := trove.MessageOf(err)
	switch {
	case errors.Is(err, errTooLarge):
		writeText(w, http.StatusRequestEntityTooLarge, "413 Request Entity Too Large\n\n"+message+"\n\n ")
		return
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		s.cfg.Log.DebugContext(ctx, "client went away", "err", err)
		w.WriteHeader(statusClientGone)
		return
	case kind == trove.KindInternal:
		s.cfg.Log.ErrorContext(ctx, "request failed", "err", err)
		message = "Internal Server Error. Please keep this ID to help us figure out what went wrong: (" + telemetry.RequestID(ctx) + ")."
	case kind == trove.KindUnavailable:
		s.cfg.Log.WarnContext(ctx, "request could not be served now", "err", err)
	}
	f, ok := faults[kind]
	if !ok {
		f = faults[trove.KindInternal]
	}
	if kind == trove.KindUnauthorized {
		w.Header().Set("WWW-Authenticate", `Keystone uri="`+s.cfg.Auth.AuthURL()+`"`)
	}
	s.writeJSON(ctx, w, f.status, map[string]wire.Fault{f.name: {Code: f.status, Message: message}})
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) //nolint:gosec // plain text of ours
}

// asBadRequest turns NotFound into BadRequest, where Trove's exception has no entry in its table and is therefore a 400.
func asBadRequest(err error, format string, args ...any) error {
	if trove.IsNotFound(err) {
		return trove.Wrap(trove.KindBadRequest, err, format, args...)
	}
	return err
}
