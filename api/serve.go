package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/internal/edge"
	"github.com/trove-dbaas/trove/internal/telemetry"
)

const versionPrefix = "/v1.0"

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status  int
	op      string
	project string
	before  func(status int) // what has to be done before the answer leaves; nil: nothing
}

func (r *recorder) WriteHeader(status int) {
	r.answers(status)
	if status != statusClientGone {
		r.ResponseWriter.WriteHeader(status)
	}
}

func (r *recorder) Write(b []byte) (int, error) {
	r.answers(http.StatusOK)
	return r.ResponseWriter.Write(b)
}

func (r *recorder) answers(status int) {
	if r.status != 0 {
		return
	}
	r.status = status
	if r.before != nil {
		r.before(status)
	}
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// ServeHTTP gives the request its id, serves it and writes the access log.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := s.cfg.Clock.Now()
	id := r.Header.Get(wire.HeaderRequestID)
	if !validRequestID(id) {
		id = telemetry.NewRequestID()
	}
	ctx := telemetry.WithRequestID(r.Context(), id)
	w.Header().Set(wire.HeaderRequestID, id)
	rec := &recorder{ResponseWriter: w, op: "none"}
	ctx = s.track(ctx, rec, r, start)
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler { //nolint:errorlint // recover gives the value itself
				panic(p)
			}
			s.cfg.Log.ErrorContext(ctx, "request panicked", "err", fmt.Sprint(p), "stack", string(debug.Stack()))
			if rec.status == 0 {
				s.writeError(ctx, rec, fmt.Errorf("panic: %v", p))
			}
		}
		took := s.cfg.Clock.Now().Sub(start)
		s.metrics.observe(rec.op, rec.status, took)
		level := slog.LevelInfo
		if rec.status < http.StatusBadRequest && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
			level = slog.LevelDebug // it has changed nothing
		}
		s.cfg.Log.Log(ctx, level, "request served", "method", r.Method, "path", r.URL.Path, "status", rec.status, "project", rec.project,
			"remote", edge.Of(r).Client.String(), "took", took)
	}()
	s.route(ctx, rec, r)
}

func validRequestID(id string) bool {
	return strings.HasPrefix(id, "req-") && trove.ValidID(id[len("req-"):])
}

// route splits the path: what is outside a project needs no token.
func (s *server) route(ctx context.Context, w *recorder, r *http.Request) {
	path := r.URL.EscapedPath()
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	reading := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case path == "/" && reading:
		s.serveVersions(ctx, w, r)
	case path == "/healthcheck" && reading:
		s.serveHealth(ctx, w, r)
	case path == versionPrefix+"/openapi.json" && reading:
		s.serveOpenAPI(ctx, w)
	case path == versionPrefix+"/docs" && reading:
		s.serveDocs(ctx, w)
	case (path == versionPrefix || path == versionPrefix+"/") && reading:
		w.Header().Set(wire.HeaderIdempotency, strconv.Itoa(int(keyLife.Seconds())))
		s.writeJSON(ctx, w, http.StatusOK, wire.VersionBody{Version: s.version(r)})
	case strings.HasPrefix(path, versionPrefix+"/") && len(path) > len(versionPrefix)+1:
		if err := s.serveProject(ctx, w, r, path[len(versionPrefix)+1:]); err != nil {
			s.writeError(ctx, w, err)
		}
	default:
		s.writeError(ctx, w, errNoRoute)
	}
}

// serveProject serves what is below /v1.0/{project}.
func (s *server) serveProject(ctx context.Context, w *recorder, r *http.Request, path string) error {
	if r.Method == http.MethodOptions {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		return nil
	}
	tokens := takeTokens(r.Header)
	if token := scrapeToken(r.Header); token != "" && tokens.User == "" {
		return s.serveScrape(ctx, w, r, path, token)
	}
	if tokens.User == "" {
		s.writeUnauthenticated(ctx, w)
		return nil
	}
	caller, err := s.cfg.Auth.Authenticate(ctx, tokens)
	if err != nil {
		if trove.KindOf(err) != trove.KindUnauthorized {
			return fmt.Errorf("authenticate: %w", err)
		}
		s.writeUnauthenticated(ctx, w)
		return nil
	}
	w.project = caller.ProjectID
	tr := trackOf(ctx)
	tr.by(&caller)
	project, path, below := strings.Cut(path, "/")
	if project, err = url.PathUnescape(project); err != nil || project != caller.ProjectID || project == "" || !below {
		return trove.Errorf(trove.KindForbidden, "Access was denied to this resource.")
	}
	if retry, limit, ok := s.rates.take(project, r.Method, s.cfg.Clock.Now()); !ok {
		s.writeRateLimited(ctx, w, r.Method, limit, retry)
		return nil
	}
	op, ps, ok := s.match(r.Method, "/"+path)
	if !ok {
		return errNoRoute
	}
	w.op = op.ID
	tr.does(op, ps)
	c := &call{req: r, header: w.Header(), caller: caller, project: project, params: ps, base: s.linkBase(r), track: tr}
	return s.perform(ctx, w, op, c)
}

// match finds the operation. A path that exists with another method is not found, as in Trove; HEAD is answered like GET.
func (s *server) match(method, path string) (*Operation, params, bool) {
	if method == http.MethodHead {
		method = http.MethodGet
	}
	rctx := chi.NewRouteContext()
	if !s.router.Match(rctx, method, path) {
		return nil, nil, false
	}
	op := s.table[method+" "+rctx.RoutePattern()]
	if op == nil {
		return nil, nil, false
	}
	ps := make(params, 0, len(rctx.URLParams.Keys))
	for i, key := range rctx.URLParams.Keys {
		value, err := url.PathUnescape(rctx.URLParams.Values[i])
		if err != nil || value == "" {
			return nil, nil, false
		}
		ps = append(ps, [2]string{key, value})
	}
	return op, ps, true
}

// params are the parts of the path, unescaped once whatever the client escaped.
type params [][2]string

func (p params) get(key string) string {
	for _, kv := range p {
		if kv[0] == key {
			return kv[1]
		}
	}
	return ""
}

// perform checks the body, finds the instance, checks the policy, runs the handler and writes its answer.
func (s *server) perform(ctx context.Context, w *recorder, op *Operation, c *call) error {
	var err error
	if c.body, err = s.readBody(w, c.req, op); err != nil {
		return err
	}
	c.admin = s.cfg.Policy.Enforce(adminRule, c.caller, map[string]string{"tenant": c.project}) == nil
	if op.Admin && !c.admin {
		return errNotAdmin
	}
	tenant := c.project
	if id := c.params.get("instance"); id != "" {
		if err := s.loadInstance(ctx, c, op, id); err != nil {
			return err
		}
		tenant = c.instance.ProjectID
	}
	if op.Rule != "" {
		if err := s.enforce(c, op.Rule, tenant); err != nil {
			return err
		}
	}
	if replayed, err := s.claimCall(ctx, w, op, c); replayed || err != nil {
		return err
	}
	out, err := s.carryOut(ctx, op, c)
	if err != nil {
		return err
	}
	if out == nil {
		w.Header().Set("Content-Type", "application/json")
		if op.Success != http.StatusNoContent {
			w.Header().Set("Content-Length", "0")
		}
		w.WriteHeader(op.Success)
		return nil
	}
	if st, ok := out.(stream); ok {
		st.write(ctx, w)
		return nil
	}
	s.writeJSON(ctx, w, op.Success, out)
	return nil
}

// stream is an answer that is no JSON and may be long. It begins when nothing can go wrong any more but its content.
type stream interface {
	write(ctx context.Context, w http.ResponseWriter)
}

func (s *server) enforce(c *call, rule, tenant string) error {
	return s.cfg.Policy.Enforce(rule, c.caller, map[string]string{"tenant": tenant})
}

// loadInstance finds the instance of the path. Somebody else's is not there, except for administrators.
func (s *server) loadInstance(ctx context.Context, c *call, op *Operation, id string) error {
	i, err := s.cfg.Store.Instance(ctx, id)
	if err != nil && !trove.IsNotFound(err) {
		return fmt.Errorf("read the instance: %w", err)
	}
	foreign := err == nil && i.ProjectID != c.project
	switch {
	case op.ByProject && (err != nil || foreign):
		return trove.Errorf(trove.KindNotFound, "DBCluster Not Found")
	case err != nil || (foreign && !c.admin):
		return trove.Errorf(trove.KindNotFound, "Resource %s cannot be found.", id)
	}
	c.instance = i
	return nil
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// encode writes a body into the buffer and returns it. Nothing is escaped that JSON does not ask for.
func encode(buf *bytes.Buffer, v any) ([]byte, error) {
	if a, ok := v.(appender); ok {
		body := a.appendJSON(buf.AvailableBuffer())
		buf.Write(body) // so that the room it needed is kept
		return body, nil
	}
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode an answer: %w", err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

func (s *server) writeJSON(ctx context.Context, w http.ResponseWriter, status int, v any) {
	buf, _ := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(buf)
	buf.Reset()
	body, err := encode(buf, v)
	if err != nil {
		s.cfg.Log.ErrorContext(ctx, "answer could not be encoded", "err", err)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that is gone has nothing to be told
}

// writeUnauthenticated answers as keystonemiddleware does: its body is not Trove's form, and clients know it.
func (s *server) writeUnauthenticated(ctx context.Context, w http.ResponseWriter) {
	type body struct {
		Code    int    `json:"code"`
		Title   string `json:"title"`
		Message string `json:"message"`
	}
	w.Header().Set("WWW-Authenticate", `Keystone uri="`+s.cfg.Auth.AuthURL()+`"`)
	s.writeJSON(ctx, w, http.StatusUnauthorized, map[string]body{"error": {
		http.StatusUnauthorized, "Unauthorized", "The request you have made requires authentication.",
	}})
}

func (s *server) writeRateLimited(ctx context.Context, w http.ResponseWriter, method string, limit int, retry time.Duration) {
	seconds := strconv.Itoa(max(1, int((retry+time.Second-1)/time.Second)))
	w.Header().Set("Retry-After", seconds)
	s.writeJSON(ctx, w, http.StatusRequestEntityTooLarge, map[string]wire.Fault{"overLimit": {
		Code: http.StatusRequestEntityTooLarge, Message: "This request was rate-limited.",
		Details:    fmt.Sprintf("Only %d %s request(s) can be made to * every minute.", limit, method),
		RetryAfter: seconds,
	}})
}
