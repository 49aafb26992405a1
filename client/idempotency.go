package client

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
)

type keyKey struct{}

// WithKey returns a context for one call that makes something: the call carries the key. Whoever keeps it can repeat the call after a crash of his own,
// and nothing is made twice. Without it each call gets a key of its own.
func WithKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, keyKey{}, key)
}

// createAttempts is how often a call that makes something is sent at most.
const createAttempts = 6

// create is do for a call that makes something. It carries an Idempotency-Key, so that it can be sent again when the connection was lost and nobody
// knows whether it was carried out. A server that does not keep keys is left alone.
func (c *Client) create(ctx context.Context, path string, in, out any) error {
	if _, ok := ctx.Value(keyKey{}).(string); !ok {
		ctx = WithKey(ctx, rand.Text())
	}
	err := c.do(ctx, http.MethodPost, path, in, out)
	for attempt := 1; attempt < createAttempts; attempt++ {
		wait, again := repeatable(err)
		if !again || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(max(wait, time.Duration(attempt)*300*time.Millisecond)):
		}
		if keeps, known := c.keepsKeys(ctx); !known {
			continue // it is away: perhaps it starts again
		} else if !keeps {
			return err
		}
		err = c.do(ctx, http.MethodPost, path, in, out)
	}
	return err
}

// repeatable reports whether it is not known what became of a call, and how long to wait before asking.
func repeatable(err error) (wait time.Duration, again bool) {
	if e, ok := errors.AsType[*Error](err); ok {
		lost := e.Fault == "" && (e.Status == http.StatusBadGateway || e.Status == http.StatusServiceUnavailable || e.Status == http.StatusGatewayTimeout)
		running := e.Status == http.StatusConflict && e.RetryAfter > 0
		return e.RetryAfter, lost || running
	}
	e, ok := errors.AsType[*trove.Error](err)
	return 0, ok && e.Kind == trove.KindUnavailable
}

// keepsKeys asks the server whether it keeps Idempotency-Keys: its version document says for how long. Known: it answered.
func (c *Client) keepsKeys(ctx context.Context) (keeps, known bool) {
	c.mu.Lock()
	keeps, endpoint := c.keys, c.cfg.Endpoint
	if endpoint == "" {
		endpoint = c.session.Endpoint
	}
	c.mu.Unlock()
	if keeps {
		return true, true
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return false, true
	}
	before, _, found := strings.Cut(u.Path, "/v1.0")
	if !found {
		return false, true
	}
	u.Path, u.RawPath = before+"/v1.0/", ""
	header, err := c.once(ctx, http.MethodGet, u.String(), http.Header{}, nil, nil)
	if err != nil {
		_, answered := errors.AsType[*Error](err)
		return false, answered
	}
	keeps = header.Get(wire.HeaderIdempotency) != ""
	c.mu.Lock()
	c.keys = keeps
	c.mu.Unlock()
	return keeps, true
}
