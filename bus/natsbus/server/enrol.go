package server

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/nats-io/nkeys"
	"golang.org/x/time/rate"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/natsbus"
	"github.com/trove-dbaas/trove/internal/refused"
)

const (
	maxBody    = 16 << 10
	nonceLife  = time.Minute
	maxBudgets = 4096
)

// enrolment is the HTTPS endpoint where guests get their first credential, and a new one when theirs has expired.
type enrolment struct {
	server   *Server
	nonceKey []byte // nonces are not kept: they carry their time and our mark

	flooded rate.Sometimes // a line a second is enough to see a flood

	sources   budgets // of addresses
	instances budgets // of those who show that they are one, where their address has none left
}

// budgets give each of many a burst of 20 and one request a second after it.
type budgets struct {
	mu   sync.Mutex
	each map[string]*rate.Limiter
}

func (b *budgets) allow(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	limiter, ok := b.each[name]
	if !ok {
		if b.each == nil || len(b.each) >= maxBudgets {
			b.each = map[string]*rate.Limiter{}
		}
		limiter = rate.NewLimiter(1, 20)
		b.each[name] = limiter
	}
	return limiter.Allow()
}

func (s *Server) startEnrolment(ctx context.Context) error {
	e := &enrolment{server: s, nonceKey: make([]byte, 32), flooded: rate.Sometimes{Interval: time.Second}}
	if _, err := rand.Read(e.nonceKey); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/enrol", e.limited(e.enrol))
	mux.HandleFunc("POST /v1/renew", e.limited(e.renew))
	mux.HandleFunc("GET /v1/nonce", e.limited(e.nonce))
	var listeners []net.Listener
	for _, address := range append([]string{s.cfg.EnrolListen}, s.cfg.FormerEnrolListen...) {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err == nil && len(listeners) == 0 {
			s.enrolURLs, err = toldOf(s.cfg.EnrolURLs, listener.Addr(), "https://")
		}
		if err != nil {
			closeAll(append(listeners, listener))
			return err
		}
		listeners = append(listeners, listener)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	s.enrol = &http.Server{
		Handler: mux, TLSConfig: s.leaf.config(),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 20 * time.Second, IdleTimeout: 30 * time.Second,
		MaxHeaderBytes: maxBody,
		Protocols:      protocols,                                           // what guests speak; less for strangers to try
		ErrorLog:       slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // strangers with broken handshakes
	}
	for _, listener := range listeners {
		s.workers.Go(func() {
			if err := s.enrol.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
				s.log.Error("enrolment endpoint ended", "address", listener.Addr(), "err", err)
			}
		})
	}
	return nil
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		if l != nil {
			_ = l.Close()
		}
	}
}

// errTooOften is the answer to those whose address has asked too often, and who did not show that they are a guest that has asked seldom.
var errTooOften = errors.New("too many requests")

// limited answers what the handler returns, and tells it whether the source address has used up its requests: one address may be that of a router with many
// guests behind it, and what one of them does must not keep the others out. What such a request costs is bounded by the connection that it takes, which it ends.
func (e *enrolment) limited(handle func(r *http.Request, crowded bool) (any, string, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		crowded := !e.sources.allow(host(r.RemoteAddr))
		if crowded {
			w.Header().Set("Connection", "close")
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		answer, outcome, err := handle(r, crowded)
		if errors.Is(err, errTooOften) {
			outcome = "rate_limited"
		}
		e.server.metrics.enrolment.WithLabelValues(outcome).Inc()
		if err == nil {
			writeJSON(w, http.StatusOK, answer)
			return
		}
		if errors.Is(err, errTooOften) {
			e.flooded.Do(func() { e.server.log.Warn("enrolment endpoint was asked too often", "source", r.RemoteAddr) })
			writeJSON(w, http.StatusTooManyRequests, refused.Body{Message: "Too many requests from this address; try again in a few seconds."})
			return
		}
		status, body := http.StatusServiceUnavailable, refused.Body{Message: "The enrolment endpoint cannot answer at the moment."}
		switch kind := trove.KindOf(err); kind {
		case trove.KindBadRequest:
			status, body.Message = http.StatusBadRequest, trove.MessageOf(err)
		case trove.KindUnauthorized, trove.KindForbidden, trove.KindNotFound:
			status, body.Message = http.StatusForbidden, bus.NotAccepted
		case trove.KindConflict:
			status, body.Message = http.StatusConflict, "The token was used already."
		default:
			e.server.log.ErrorContext(r.Context(), "enrolment failed", "err", err)
		}
		writeJSON(w, status, body)
	}
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		status, data = http.StatusInternalServerError, []byte("{}")
	}
	w.WriteHeader(status)
	_, _ = w.Write(data) // a caller who went away
}

func host(remote string) string {
	if host, _, err := net.SplitHostPort(remote); err == nil {
		return host
	}
	return remote
}

func (e *enrolment) enrol(r *http.Request, crowded bool) (any, string, error) {
	var body natsbus.EnrolRequest
	if err := readBody(r, &body); err != nil {
		return nil, "bad_request", err
	}
	if !nkeys.IsValidPublicUserKey(body.PublicKey) || body.Token == "" {
		return nil, "bad_request", trove.Errorf(trove.KindBadRequest, "Token and public key are needed.")
	}
	ctx, hash := r.Context(), bus.HashToken(trove.Secret(body.Token))
	if crowded {
		owner, err := e.server.cfg.Guests.TokenOwner(ctx, hash)
		switch {
		case err != nil && !trove.IsNotFound(err):
			return nil, "error", err
		case err != nil || !e.instances.allow(owner):
			return nil, "", errTooOften
		}
	}
	instance, err := e.server.cfg.Guests.UseEnrolmentToken(ctx, hash, body.PublicKey)
	switch kind := trove.KindOf(err); {
	case err == nil:
	case kind == trove.KindConflict && e.owns(ctx, instance, body.PublicKey):
		// The guest itself, whose answer was lost; it goes on to renew, for which it has to show that it has the key.
		return nil, "repeated", err
	case kind == trove.KindConflict:
		// Somebody else has the machine's boot data: either this guest or the one before is not what it seems.
		e.server.log.WarnContext(ctx, "alarm: an enrolment token was used a second time", "instance", instance, "source", r.RemoteAddr, "err", err)
		e.server.alarm(ctx, Alarm{
			Instance: instance, Kind: AlarmReused,
			Sentence: "The enrolment token of the instance's machine was used a second time, with another key, and refused: somebody else has its boot data.",
		})
		return nil, "token_reused", err
	case kind == trove.KindUnauthorized || kind == trove.KindNotFound:
		e.server.log.WarnContext(ctx, "enrolment with an unknown token refused", "source", r.RemoteAddr)
		return nil, "unknown_token", err
	default:
		return nil, "error", err
	}
	c, err := e.issue(ctx, instance, body.PublicKey, true)
	if err != nil {
		return nil, "error", err
	}
	e.server.log.InfoContext(ctx, "guest enrolled", "instance", instance, "source", r.RemoteAddr)
	return c, "enrolled", nil
}

// owns says whether the key is the one that the instance's guest enrolled with.
func (e *enrolment) owns(ctx context.Context, instance, key string) bool {
	if instance == "" {
		return false
	}
	current, err := e.server.cfg.Guests.GuestKey(ctx, instance)
	return err == nil && current == key
}

// issue makes a credential. The guest's first one is what it uses when it is heard of; a later one may be lost on the way while it uses the one before.
func (e *enrolment) issue(ctx context.Context, instance, key string, first bool) (bus.Credential, error) {
	c, err := e.server.IssueGuest(ctx, instance, key)
	if err != nil {
		return bus.Credential{}, err
	}
	trust := ""
	if first {
		trust = c.Trust()
	}
	return c, e.server.cfg.Guests.CredentialIssued(ctx, instance, c.Expires, trust)
}

// nonce is a time and a mark that only this process can make; it is good for a minute. Replaying a renewal within it gives the
// guest's credential once more, which is worth nothing without its key. Everybody gets one: a guest cannot show who it is before, and to refuse would cost as much.
func (e *enrolment) nonce(*http.Request, bool) (any, string, error) {
	stamp := binary.BigEndian.AppendUint64(nil, uint64(e.server.cfg.Clock.Now().UnixMilli()))
	return natsbus.Nonce{Nonce: base64.RawURLEncoding.EncodeToString(append(stamp, e.mark(stamp)...))}, "nonce", nil
}

func (e *enrolment) mark(stamp []byte) []byte {
	h := hmac.New(sha256.New, e.nonceKey)
	h.Write(stamp)
	return h.Sum(nil)
}

func (e *enrolment) fresh(nonce string) bool {
	data, err := base64.RawURLEncoding.DecodeString(nonce)
	if err != nil || len(data) != 8+sha256.Size || !hmac.Equal(e.mark(data[:8]), data[8:]) {
		return false
	}
	at := time.UnixMilli(int64(binary.BigEndian.Uint64(data[:8])))
	return e.server.cfg.Clock.Now().Sub(at) <= nonceLife
}

func (e *enrolment) renew(r *http.Request, crowded bool) (any, string, error) {
	var body natsbus.RenewRequest
	if err := readBody(r, &body); err != nil {
		return nil, "bad_request", err
	}
	signature, err := base64.StdEncoding.DecodeString(body.Signature)
	if err != nil || !trove.ValidID(body.Instance) || !e.fresh(body.Nonce) {
		return nil, "bad_request", trove.Errorf(trove.KindBadRequest, "The request has a field that is not valid.")
	}
	refused := error(trove.Errorf(trove.KindForbidden, "The key is not accepted."))
	if crowded {
		refused = errTooOften
	}
	key, err := nkeys.FromPublicKey(body.PublicKey)
	if err != nil || key.Verify(natsbus.RenewText(body.Instance, body.Nonce), signature) != nil {
		return nil, "renewal_refused", refused
	}
	ctx := r.Context()
	current, err := e.server.cfg.Guests.GuestKey(ctx, body.Instance)
	if err != nil && !trove.IsNotFound(err) && trove.KindOf(err) != trove.KindForbidden {
		return nil, "error", err
	}
	if err != nil || current != body.PublicKey {
		if !crowded {
			e.server.log.WarnContext(ctx, "renewal refused", "instance", body.Instance, "source", r.RemoteAddr, "err", err)
		}
		return nil, "renewal_refused", refused
	}
	if crowded && !e.instances.allow(body.Instance) {
		return nil, "", errTooOften
	}
	c, err := e.issue(ctx, body.Instance, body.PublicKey, false)
	if trove.KindOf(err) == trove.KindForbidden {
		return nil, "renewal_refused", err
	}
	if err != nil {
		return nil, "error", err
	}
	e.server.log.InfoContext(ctx, "guest renewed an old credential", "instance", body.Instance, "source", r.RemoteAddr)
	return c, "renewed", nil
}

func readBody(r *http.Request, v any) error {
	if err := json.NewDecoder(r.Body).Decode(v); err != nil {
		return trove.Wrap(trove.KindBadRequest, err, "The body cannot be read.")
	}
	return nil
}
