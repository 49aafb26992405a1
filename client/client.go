// Package client is the Go client of the REST API: Trove v1.0 with this project's extensions.
//
// A Client may be used from several goroutines. It gets a token when it first needs one, keeps it in a file of mode 0600 if told where, and gets
// a new one when the server says that it is not valid any more. Errors of the server are *Error.
//
// This is the package that stays stable for programs outside this repository.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
)

// Config says where the server is and who asks: the OS_* variables of OpenStack clients.
type Config struct {
	AuthURL   string // of the Identity API v3
	Username  string
	Password  trove.Secret
	Project   string // name or id
	ProjectID string
	Domain    string // name of the user's and the project's domain; "" for Default
	Region    string
	Token     trove.Secret // instead of a password; then Endpoint is needed
	Endpoint  string       // of the database service with the project's id; "" for the catalogue's
	Interface string       // of the catalogue: public (the default), internal, admin
	Cache     string       // directory for the token; "" for none
	CACert    string       // PEM file of the authorities that sign the servers' certificates; "" for those of the system
	HTTP      *http.Client // nil for one with a timeout of two minutes, longer than the longest poll
}

// Client talks to one deployment as one user.
type Client struct {
	cfg  Config
	http *http.Client

	mu      sync.Mutex
	session session
	keys    bool // the server keeps Idempotency-Keys
}

// New returns a client. It does no input or output; what is missing in the configuration is an error that names it.
func New(cfg Config) (*Client, error) {
	if cfg.Token == "" || cfg.Endpoint == "" {
		for _, need := range []struct{ name, value string }{
			{"OS_AUTH_URL", cfg.AuthURL},
			{"OS_USERNAME", cfg.Username},
			{"OS_PASSWORD", string(cfg.Password)},
			{"OS_PROJECT_NAME", cfg.Project + cfg.ProjectID},
		} {
			if need.value == "" {
				return nil, trove.Errorf(trove.KindBadRequest, "%s is not set: source an openrc file (`. var/dev/openrc`), or name a cloud of clouds.yaml with --os-cloud.", need.name)
			}
		}
	}
	h := cfg.HTTP
	if h == nil {
		h = &http.Client{Timeout: 2 * time.Minute}
		if cfg.CACert != "" {
			t, err := trusting(cfg.CACert)
			if err != nil {
				return nil, err
			}
			h.Transport = t
		}
	}
	return &Client{cfg: cfg, http: h}, nil
}

// trusting returns a transport that takes certificates that the authorities in the file have signed.
func trusting(file string) (http.RoundTripper, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, trove.Wrap(trove.KindBadRequest, err, "The file %s of OS_CACERT cannot be read.", file)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, trove.Errorf(trove.KindBadRequest, "The file %s of OS_CACERT has no certificate in PEM form.", file)
	}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute,
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
	}, nil
}

// Error is an answer of the server that says no.
type Error struct {
	Status    int    // HTTP
	Fault     string // "itemNotFound", "badRequest", ...
	Message   string
	RequestID string

	RetryAfter time.Duration // when to ask again; 0: not said
}

// Error returns the server's message.
func (e *Error) Error() string { return e.Message }

// IsNotFound reports whether the server said that the thing does not exist.
func IsNotFound(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == http.StatusNotFound
}

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 64 << 20

// do sends a request below the project's endpoint and decodes the answer into out (nil: dropped). A token that is not valid any more is replaced
// once. A request whose connection could not be made at all is sent again twice: nothing can have happened.
func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	body, err := encode(in)
	if err != nil {
		return err
	}
	s, err := c.authenticated(ctx, false)
	if err != nil {
		return err
	}
	err = c.send(ctx, s, method, path, body, out)
	if e, ok := errors.AsType[*Error](err); ok && e.Status == http.StatusUnauthorized && c.cfg.Password != "" {
		if s, err = c.authenticated(ctx, true); err != nil {
			return err
		}
		err = c.send(ctx, s, method, path, body, out)
	}
	return err
}

func encode(in any) ([]byte, error) {
	if in == nil {
		return nil, nil
	}
	body, err := json.Marshal(in)
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	return body, nil
}

func (c *Client) send(ctx context.Context, s session, method, path string, body []byte, out any) error {
	header := http.Header{wire.HeaderToken: {s.Token}}
	if key, ok := ctx.Value(keyKey{}).(string); ok {
		header.Set(wire.HeaderIdempotencyKey, key)
	}
	answer, err := c.roundTrip(ctx, method, strings.TrimSuffix(s.Endpoint, "/")+path, header, body, out)
	if id, ok := ctx.Value(beganKey{}).(*string); ok && answer.Get(wire.HeaderOperation) != "" {
		*id = answer.Get(wire.HeaderOperation)
	}
	return err
}

type beganKey struct{}

// Began returns a context for one call that asks for long work: the call sets *id to the operation that it began and leaves it alone if it
// began none.
func Began(ctx context.Context, id *string) context.Context {
	return context.WithValue(ctx, beganKey{}, id)
}

// roundTrip sends one request and returns the answer's header.
func (c *Client) roundTrip(ctx context.Context, method, target string, header http.Header, body []byte, out any) (http.Header, error) {
	var err error
	for attempt := range 3 {
		var h http.Header
		if h, err = c.once(ctx, method, target, header, body, out); !notConnected(err) {
			return h, err
		}
		if attempt < 2 {
			select {
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			case <-time.After(time.Duration(attempt+1) * 200 * time.Millisecond):
			}
		}
	}
	return nil, err
}

func (c *Client) once(ctx context.Context, method, target string, header http.Header, body []byte, out any) (http.Header, error) {
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, target, reader)
	if err != nil {
		return nil, trove.Wrap(trove.KindBadRequest, err, "The address %q of the server is not valid.", target)
	}
	req.Header = header.Clone()
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, unreachable(req.URL, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, trove.Wrap(trove.KindUnavailable, err, "The answer of %s broke off; it is not known whether the request was carried out: look before trying again.", req.URL.Host)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return nil, faultOf(resp, data)
	}
	if out != nil && len(data) > 0 {
		if err := json.Unmarshal(data, out); err != nil {
			return nil, trove.Wrap(trove.KindInternal, err, "The answer of %s is not what this API answers: is it the database service?", req.URL.Host)
		}
	}
	return resp.Header, nil
}

// notConnected reports whether a server did not take the connection: it is not there, or just stopped listening.
func notConnected(err error) bool {
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == "dial" && (errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET))
}

func unreachable(u *url.URL, err error) error {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return trove.Wrap(trove.KindUnavailable, err, "Nothing listens on %s: is the service running? `make demo` or `trove dev` starts it on this machine.", u.Host)
	}
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		return trove.Wrap(trove.KindUnavailable, err, "%s did not answer in time.", u.Host)
	}
	return trove.Wrap(trove.KindUnavailable, err, "%s cannot be reached: %v.", u.Host, errors.Unwrap(err))
}

// faultOf reads the error forms of Trove, {"itemNotFound": {"code", "message"}}, and of Keystone, {"error": {"code", "message"}}.
func faultOf(resp *http.Response, data []byte) error {
	e := &Error{Status: resp.StatusCode, RequestID: resp.Header.Get(wire.HeaderRequestID)}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		e.RetryAfter = time.Duration(seconds) * time.Second
	}
	var body map[string]wire.Fault
	if json.Unmarshal(data, &body) == nil {
		for name, fault := range body {
			e.Fault, e.Message = name, fault.Message
			if fault.Details != "" {
				e.Message += " " + fault.Details
			}
		}
	}
	if e.Message == "" {
		e.Message = fmt.Sprintf("The server answered %s.", resp.Status)
	}
	if e.Status == http.StatusUnauthorized && e.Fault == "error" {
		e.Message += " Check user name, password and project."
	}
	return e
}
