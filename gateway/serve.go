package gateway

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/gateway/grant"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/refused"
)

// Why requests are refused: the label of trove_gateway_refused_total.
const (
	reasonPath        = "path"
	reasonMethod      = "method"
	reasonToken       = "token"
	reasonExpired     = "expired"
	reasonGuest       = "guest"
	reasonOperation   = "operation" // the grant is for another method
	reasonPrefix      = "prefix"
	reasonClosed      = "closed" // the operation has ended
	reasonLength      = "length"
	reasonTooLarge    = "too_large"
	reasonMismatch    = "mismatch"
	reasonSealed      = "sealed" // another object has the name
	reasonSlow        = "slow"
	reasonBusy        = "busy" // too many transfers or requests of the guest
	reasonFull        = "full"
	reasonConnections = "connections"
	reasonAborted     = "aborted"
)

// refusal is an answer that is no success.
type refusal struct {
	status  int
	reason  string // "": the request was in order
	message string
	err     error
}

func (r *refusal) Error() string { return r.message }
func (r *refusal) Unwrap() error { return r.err }

func refuse(status int, reason, message string) *refusal {
	return &refusal{status: status, reason: reason, message: message}
}

// request is one that has been let in.
type request struct {
	grant.Grant
	name  string
	guest *guest
}

// ServeHTTP implements http.Handler. It reads the path as it was sent: what a router would clean is refused.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	status, err := g.serve(w, r)
	if err != nil {
		status = g.answer(w, r, err)
	}
	g.metrics.requests.WithLabelValues(method(r), strconv.Itoa(status)).Inc()
}

func (g *Gateway) serve(w http.ResponseWriter, r *http.Request) (int, error) {
	admitted, err := g.admit(r)
	if err != nil {
		return 0, err
	}
	defer admitted.guest.leave()
	switch r.Method {
	case http.MethodPut:
		return g.put(w, r, admitted)
	default:
		return g.get(w, r, admitted)
	}
}

// method is a label: a guest may send any word.
func method(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPut:
		return r.Method
	}
	return "other"
}

// admit looks at everything that can be looked at before the body.
func (g *Gateway) admit(r *http.Request) (*request, error) {
	if method(r) == "other" {
		return nil, refuse(http.StatusMethodNotAllowed, reasonMethod, "PUT, GET and HEAD are what the gateway does.")
	}
	name, ok := strings.CutPrefix(r.RequestURI, guestapi.ObjectPath)
	if !ok || guestapi.CheckObjectName(name) != nil {
		return nil, refuse(http.StatusBadRequest, reasonPath, "The path is none of an object.")
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return nil, refuse(http.StatusUnauthorized, reasonToken, "A grant is needed.")
	}
	granted, err := g.cfg.Grants.Verify(token)
	if errors.Is(err, grant.ErrExpired) {
		return nil, refuse(http.StatusForbidden, reasonExpired, "The grant has expired.")
	}
	if err != nil {
		return nil, refuse(http.StatusUnauthorized, reasonToken, "The grant is not valid.")
	}
	if err := g.identify(r, granted, name, token); err != nil {
		return nil, err
	}
	if err := covers(r, granted, name); err != nil {
		return nil, err
	}
	if err := g.open(r, granted); err != nil {
		return nil, err
	}
	guest, err := g.guests.enter(granted.Instance)
	if err != nil {
		return nil, err
	}
	return &request{Grant: granted, name: name, guest: guest}, nil
}

// identify refuses everybody but the guest that the grant was made for: who sends the request has signed it with that guest's key, on this very connection, and
// the key is the one that the guest of the instance has now.
func (g *Gateway) identify(r *http.Request, granted grant.Grant, name, token string) error {
	refused := refuse(http.StatusForbidden, reasonGuest, "The grant is for another guest.")
	if r.TLS == nil {
		return refused
	}
	exported, err := r.TLS.ExportKeyingMaterial(guestapi.ObjectExporter, nil, guestapi.ObjectExporterSize)
	if err != nil {
		return refused
	}
	signature, err := base64.StdEncoding.DecodeString(r.Header.Get(guestapi.HeaderSignature))
	if err != nil {
		return refused
	}
	key, err := nkeys.FromPublicKey(granted.Key)
	if err != nil || key.Verify(guestapi.ObjectText(r.Method, name, token, exported), signature) != nil {
		return refused
	}
	known, err := g.cfg.State.Guest(r.Context(), granted.Instance)
	if err != nil && !trove.IsNotFound(err) {
		return err
	}
	if err != nil || known.PublicKey != granted.Key {
		return refused
	}
	return nil
}

func covers(r *http.Request, granted grant.Grant, name string) error {
	if r.Method != granted.Method && r.Method != http.MethodHead { // who may write may also look what he has written
		return refuse(http.StatusForbidden, reasonOperation, "The grant is for another method.")
	}
	if !granted.Covers(name) {
		return refuse(http.StatusForbidden, reasonPrefix, "The grant is for other objects.")
	}
	return nil
}

// open refuses a grant whose operation has ended.
func (g *Gateway) open(r *http.Request, granted grant.Grant) error {
	if granted.Operation == "" {
		return nil
	}
	op, err := g.cfg.State.Operation(r.Context(), granted.Operation)
	if err != nil && !trove.IsNotFound(err) {
		return err
	}
	if err != nil || op.State != trove.OperationOpen {
		return refuse(http.StatusForbidden, reasonClosed, "The operation that the grant was for has ended.")
	}
	return nil
}

// answer sends what went wrong, and says so where somebody may look for it.
func (g *Gateway) answer(w http.ResponseWriter, r *http.Request, err error) int {
	why, ok := errors.AsType[*refusal](err)
	if !ok {
		why = refusalOf(err)
	}
	switch {
	case why.reason != "":
		g.metrics.refused.WithLabelValues(why.reason).Inc()
		g.tellRefused(r, why)
	case why.status >= http.StatusInternalServerError:
		g.log.ErrorContext(r.Context(), "object request failed", "source", r.RemoteAddr, "err", err)
	}
	hangUp(w)
	if why.status == http.StatusTooManyRequests || why.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, why.status, refused.Body{Message: why.message})
	return why.status
}

// lastWords is how long a guest may go on sending what will not be taken, so that it gets to reading the answer.
const lastWords = 500 * time.Millisecond

// hangUp ends the connection with the answer: what is left of a body is not wanted.
func hangUp(w http.ResponseWriter) {
	w.Header().Set("Connection", "close")
	_ = http.NewResponseController(w).SetReadDeadline(clock.System{}.Now().Add(lastWords))
}

// tellRefused logs a refusal; of a flood, some, with how many there were.
func (g *Gateway) tellRefused(r *http.Request, why *refusal) {
	tell, more := g.told.tell(sourceOf(r.RemoteAddr))
	if !tell {
		return
	}
	path := r.RequestURI
	if len(path) > maxLoggedPath {
		path = path[:maxLoggedPath]
	}
	attrs := []any{"reason", why.reason, "source", r.RemoteAddr, "method", method(r), "path", path, "unlogged", more}
	if granted, err := g.cfg.Grants.Verify(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")); err == nil || errors.Is(err, grant.ErrExpired) {
		attrs = append(attrs, "instance", granted.Instance, "op", granted.Operation)
	}
	if why.err != nil {
		attrs = append(attrs, "err", why.err)
	}
	g.log.WarnContext(r.Context(), "object request refused", attrs...)
}

const maxLoggedPath = 200

// refusalOf turns an error of the store into an answer.
func refusalOf(err error) *refusal {
	switch trove.KindOf(err) {
	case trove.KindNotFound:
		return &refusal{status: http.StatusNotFound, message: trove.MessageOf(err), err: err}
	case trove.KindBadRequest:
		return &refusal{status: http.StatusBadRequest, message: trove.MessageOf(err), err: err}
	case trove.KindForbidden:
		return &refusal{status: http.StatusForbidden, reason: reasonOperation, message: trove.MessageOf(err), err: err}
	case trove.KindUnavailable:
		return &refusal{status: http.StatusServiceUnavailable, message: trove.MessageOf(err), err: err}
	}
	return &refusal{status: http.StatusInternalServerError, message: "The object gateway cannot do this at the moment.", err: err}
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		status, data = http.StatusInternalServerError, []byte("{}")
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.WriteHeader(status)
	_, _ = w.Write(data) // a caller who went away
}
