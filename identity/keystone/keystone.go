// Package keystone checks tokens with OpenStack's Keystone, by the contract of keystonemiddleware's auth_token: a service user asks Keystone about each
// token, and the answer is kept for a while.
//
// What is kept is bounded in time and number, and found by a hash of the token: tokens themselves are not kept. However many requests bring a token that
// is not known yet, Keystone is asked once; the question is nobody's in particular, and goes on if the request that began it ends. A revoked token is
// refused when the cache time is over. While Keystone is away, tokens that are known go on working until then, and others are Unavailable errors within
// Config.Timeout; nothing has to be restarted when it comes back. An Authenticator may be used from several goroutines.
package keystone

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/prometheus/client_golang/prometheus"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/identity"
	"github.com/trove-dbaas/trove/internal/clock"
)

// Config is what an Authenticator needs. AuthURL, Username, Password, Project, Clock and Log are required.
type Config struct {
	AuthURL string // of Keystone, as this process reaches it
	// PublicURL is where clients get tokens; "": AuthURL.
	PublicURL string
	Username  string // of the service user
	// Password is read at each login, so that a new one needs no restart.
	Password      func() (trove.Secret, error)
	Project       string
	UserDomain    string // name; "": Default
	ProjectDomain string // name; "": Default
	Region        string // of Keystone's endpoint in its catalogue; "": any
	Interface     string // of that endpoint: public, internal or admin; "": internal
	CAFile        string // of certificate authorities in PEM that Keystone's certificate may be of; "": the machine's
	// ServiceRoles make a service one that may vouch for a token that has expired meanwhile.
	ServiceRoles []string
	// AnyService takes the token of any user for a service token, as releases before 2023 did. It still vouches for nothing.
	AnyService bool

	CacheTime time.Duration // 0: DefaultCacheTime
	CacheSize int           // tokens; 0: DefaultCacheSize
	Timeout   time.Duration // how long one token may take to check, logging in included; 0: DefaultTimeout

	Clock   clock.Clock
	Log     *slog.Logger
	Metrics prometheus.Registerer // nil: no metrics
}

// Defaults.
const (
	DefaultCacheTime = 5 * time.Minute
	DefaultCacheSize = 10_000
	DefaultTimeout   = 10 * time.Second
	defaultDomain    = "Default"
)

// InvalidTime is how long a token that Keystone refused is refused without asking again, if the cache time is not shorter.
const InvalidTime = 10 * time.Second

// maxToken is how long a token may be: the headers of a whole request are no longer.
const maxToken = 16 << 10

// Authenticator checks tokens.
type Authenticator struct {
	cfg     Config
	http    *http.Client
	metrics *metrics
	slots   chan struct{} // questions to Keystone that are under way
	away    atomic.Bool   // the last question had no answer

	checks flights[key, identity.Caller]
	logins flights[struct{}, *gophercloud.ServiceClient]

	mu      sync.Mutex // guards all below
	valid   *cache[identity.Caller]
	invalid *cache[struct{}] // apart, so that a flood of them drives out none that is valid
	client  *gophercloud.ServiceClient
}

var _ identity.Authenticator = (*Authenticator)(nil)

// key names a token, and whether it may have expired.
type key struct {
	hash    [sha256.Size]byte
	expired bool
}

// New returns an Authenticator. It reads the file of certificates and asks Keystone nothing yet.
func New(cfg Config) (*Authenticator, error) {
	if cfg.AuthURL == "" || cfg.Username == "" || cfg.Password == nil || cfg.Project == "" || cfg.Clock == nil || cfg.Log == nil {
		return nil, errors.New("identity/keystone: AuthURL, Username, Password, Project, Clock and Log are required")
	}
	cfg.setDefaults()
	client, err := newHTTP(&cfg)
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	a := &Authenticator{
		cfg: cfg, http: client, metrics: m, slots: make(chan struct{}, maxQuestions),
		valid: newCache[identity.Caller](cfg.CacheSize), invalid: newCache[struct{}](cfg.CacheSize),
	}
	a.checks.limit, a.logins.limit = cfg.Timeout, cfg.Timeout
	return a, nil
}

func (c *Config) setDefaults() {
	for _, d := range []struct {
		text  *string
		value string
	}{
		{&c.PublicURL, c.AuthURL},
		{&c.UserDomain, defaultDomain},
		{&c.ProjectDomain, defaultDomain},
		{&c.Interface, string(gophercloud.AvailabilityInternal)},
	} {
		if *d.text == "" {
			*d.text = d.value
		}
	}
	if c.CacheTime <= 0 {
		c.CacheTime = DefaultCacheTime
	}
	if c.CacheSize <= 0 {
		c.CacheSize = DefaultCacheSize
	}
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
}

// Close ends the questions that are under way and returns when they are.
func (a *Authenticator) Close() error {
	a.checks.close()
	a.logins.close()
	a.http.CloseIdleConnections()
	return nil
}

// AuthURL is identity.Authenticator.AuthURL.
func (a *Authenticator) AuthURL() string { return a.cfg.PublicURL }

// Authenticate is identity.Authenticator.Authenticate.
func (a *Authenticator) Authenticate(ctx context.Context, t identity.Tokens) (identity.Caller, error) {
	var service identity.Caller
	vouched := false
	if t.Service != "" {
		var err error
		if service, err = a.check(ctx, t.Service, false); err != nil {
			return identity.Caller{}, fmt.Errorf("check the service token: %w", err)
		}
		for _, role := range a.cfg.ServiceRoles {
			vouched = vouched || service.HasRole(role)
		}
		if !vouched && !a.cfg.AnyService {
			a.cfg.Log.InfoContext(ctx, "service token refused: its user has none of the service roles", "project", service.ProjectID)
			return identity.Caller{}, errUnauthorized()
		}
	}
	c, err := a.check(ctx, t.User, vouched)
	if err != nil {
		return identity.Caller{}, err
	}
	c.ServiceRoles = service.Roles
	return c, nil
}

func errUnauthorized() error {
	return trove.Errorf(trove.KindUnauthorized, "The request you have made requires authentication.")
}

// check returns who a token belongs to, from memory or from Keystone.
func (a *Authenticator) check(ctx context.Context, token trove.Secret, mayBeExpired bool) (identity.Caller, error) {
	token = trove.Secret(strings.TrimSpace(token.Reveal()))
	if !wellFormed(token.Reveal()) {
		return identity.Caller{}, errUnauthorized()
	}
	k := key{sha256.Sum256([]byte(token.Reveal())), mayBeExpired}
	v, known := a.known(k)
	if known {
		a.metrics.hit()
	} else {
		v.caller, v.err = a.checks.do(ctx, k, func(ctx context.Context) (identity.Caller, error) {
			if v, known := a.known(k); known { // another question ended since
				return v.caller, v.err
			}
			return a.ask(ctx, k, token)
		})
	}
	if v.err != nil {
		return identity.Caller{}, v.err
	}
	v.caller.Token = token
	return v.caller, nil
}

// verdict is what is known of a token.
type verdict struct {
	caller identity.Caller
	err    error // Unauthorized
}

// wellFormed reports whether a text can be a token at all: Keystone's have visible ASCII characters alone.
func wellFormed(token string) bool {
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return false
		}
	}
	return token != "" && len(token) <= maxToken
}

// known returns what is remembered of a token.
func (a *Authenticator) known(k key) (v verdict, known bool) {
	now := a.cfg.Clock.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if c, ok := a.valid.get(key{hash: k.hash}, now); ok {
		if !k.expired && !c.Expires.After(now) {
			return verdict{err: errUnauthorized()}, true
		}
		return verdict{caller: c}, true
	}
	if _, ok := a.invalid.get(k, now); ok {
		return verdict{err: errUnauthorized()}, true
	}
	return verdict{}, false
}

// ask asks Keystone and remembers the answer, but not that there was none.
func (a *Authenticator) ask(ctx context.Context, k key, token trove.Secret) (identity.Caller, error) {
	asked, took := a.cfg.Clock.Now(), clock.Stopwatch()
	c, err := a.validate(ctx, token, k.expired)
	a.metrics.observe(err, took())
	a.tell(ctx, err)
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case err == nil:
		// The time runs from the question on: what was revoked after it is refused when it is over.
		a.valid.put(key{hash: k.hash}, c, asked.Add(a.cfg.CacheTime))
		if !k.expired && !c.Expires.After(asked) {
			return identity.Caller{}, errUnauthorized()
		}
	case trove.KindOf(err) == trove.KindUnauthorized:
		a.invalid.put(k, struct{}{}, asked.Add(min(InvalidTime, a.cfg.CacheTime)))
	}
	return c, err
}

// tell writes to the log when Keystone goes away and when it is back.
func (a *Authenticator) tell(ctx context.Context, err error) {
	away := trove.KindOf(err) == trove.KindUnavailable
	if a.away.Swap(away) == away {
		return
	}
	if away {
		a.cfg.Log.WarnContext(ctx, "Keystone cannot check tokens: those that are known work until their cache time ends", "err", err)
		return
	}
	a.cfg.Log.InfoContext(ctx, "Keystone checks tokens again")
}
