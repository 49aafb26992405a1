// Package osclient talks to the services of an OpenStack: one login, one set of clients for all drivers that need one.
//
// Every request has a deadline, is counted, and is tried again where that cannot do a thing twice. What fails is a *trove.Error with a kind and a sentence
// that has OpenStack's own request id; Told makes one of whatever gophercloud returns. Secrets are in no error and no log. A Session may be used by several goroutines.
package osclient

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/prometheus/client_golang/prometheus"

	trove "github.com/trove-dbaas/trove"
)

// DefaultTimeout is how long a request may take where nothing is said.
const DefaultTimeout = time.Minute

// maxConnections is how many connections to one service are kept while nobody uses them, for idle.
const (
	maxConnections = 16
	idle           = time.Minute
)

// Config is where OpenStack is and who asks.
type Config struct {
	AuthURL       string
	Username      string
	Password      func() (trove.Secret, error) // called at each login
	UserDomain    string                       // its name; "": Default
	Project       string
	ProjectDomain string // its name; "": Default
	Region        string // "": any
	Interface     string // of the catalogue's endpoints; "": internal
	CAFile        string // "": the certificate authorities of this machine
	Timeout       time.Duration

	// The ids of the domains, "" where they are told by name. A domain is told by one of the two: of both the id counts.
	UserDomainID, ProjectDomainID string

	Log     *slog.Logger
	Metrics prometheus.Registerer // nil: nothing is counted
}

// Session is a login to an OpenStack.
type Session struct {
	cfg      Config
	provider *gophercloud.ProviderClient
	state    *atomic.Pointer[login]
	project  string // of a caller's token; "": that of the login
	asCaller bool
	wire     *wire
	refused  *atomic.Pointer[loginError] // why the last login again failed
}

// loginError is an error, or nil, that can be kept atomically.
type loginError struct{ err error }

// login is what Keystone said.
type login struct {
	catalog []tokens.CatalogEntry
	project string
	user    string
}

// New logs in. Later logins, when a token has ended, happen by themselves.
func New(ctx context.Context, cfg Config) (*Session, error) {
	if cfg.AuthURL == "" || cfg.Username == "" || cfg.Password == nil || cfg.Project == "" || cfg.Log == nil {
		return nil, errors.New("osclient: AuthURL, Username, Password, Project and Log are required")
	}
	cfg.setDefaults()
	w, err := newWire(cfg)
	if err != nil {
		return nil, err
	}
	s := &Session{cfg: cfg, wire: w, state: new(atomic.Pointer[login]), refused: new(atomic.Pointer[loginError])}
	if s.provider, err = s.logIn(ctx); err != nil {
		return nil, err
	}
	s.provider.ReauthFunc = func(ctx context.Context) error {
		// All who find the token refused wait for this one, so it is not bound to the first of them.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.Timeout)
		defer cancel()
		again, err := s.logIn(ctx)
		s.refused.Store(&loginError{err})
		if err == nil {
			s.provider.CopyTokenFrom(again)
		}
		// Gophercloud hides why a login failed from errors.As. So the request is made again with the old token, and its refusal is told with the reason.
		return nil
	}
	return s, nil
}

func (c *Config) setDefaults() {
	for _, d := range []struct {
		text  *string
		value string
	}{
		{&c.UserDomain, "Default"},
		{&c.ProjectDomain, "Default"},
		{&c.Interface, string(gophercloud.AvailabilityInternal)},
	} {
		if *d.text == "" {
			*d.text = d.value
		}
	}
	if c.UserDomainID != "" {
		c.UserDomain = ""
	}
	if c.ProjectDomainID != "" {
		c.ProjectDomain = ""
	}
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
}

// Close gives the connections back.
func (s *Session) Close() error {
	s.wire.transport.CloseIdleConnections()
	return nil
}

// ProjectID returns the id of the project that is acted in.
func (s *Session) ProjectID() string {
	if s.project != "" {
		return s.project
	}
	return s.state.Load().project
}

// UserID returns the id of the user who logged in.
func (s *Session) UserID() string { return s.state.Load().user }

// As returns a session that acts with a caller's token in his project, with no right of the service user. When the token is not taken the error is of kind Unauthorized.
func (s *Session) As(token trove.Secret, project string) *Session {
	as := &Session{cfg: s.cfg, state: s.state, wire: s.wire, refused: s.refused, project: project, asCaller: true}
	as.provider = as.newProvider()
	as.provider.SetToken(token.Reveal())
	return as
}

// newProvider returns a client without a token.
func (s *Session) newProvider() *gophercloud.ProviderClient {
	p := &gophercloud.ProviderClient{HTTPClient: http.Client{
		Transport: s.wire,
		// The headers of a request are tokens: nobody is followed anywhere with them.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	p.UseTokenLock()
	p.UserAgent.Prepend("trove")
	p.RetryFunc = s.retry
	return p
}

// logIn returns a client with a new token and remembers the catalogue that came with it.
func (s *Session) logIn(ctx context.Context) (*gophercloud.ProviderClient, error) {
	password, err := s.cfg.Password()
	if err != nil {
		return nil, trove.Wrap(trove.KindUnavailable, err, "The password of the user %s of OpenStack cannot be read.", s.cfg.Username)
	}
	provider := s.newProvider()
	client := &gophercloud.ServiceClient{
		ProviderClient: provider, Type: Identity, Endpoint: versioned(s.cfg.AuthURL, "v3"), MoreHeaders: map[string]string{serviceHeader: Identity},
	}
	result := tokens.Create(ctx, client, &tokens.AuthOptions{
		Username: s.cfg.Username, DomainName: s.cfg.UserDomain, DomainID: s.cfg.UserDomainID, Password: password.Reveal(),
		Scope: tokens.Scope{ProjectName: s.cfg.Project, DomainName: s.cfg.ProjectDomain, DomainID: s.cfg.ProjectDomainID},
	})
	if Is(result.Err, http.StatusUnauthorized) {
		return nil, trove.Wrap(trove.KindUnavailable, result.Err, "The user %s of the domain %s cannot log in to the project %s of OpenStack: check name, password and role.",
			s.cfg.Username, cmp.Or(s.cfg.UserDomain, s.cfg.UserDomainID), s.cfg.Project)
	}
	if result.Err != nil {
		return nil, Told(result.Err)
	}
	l, err := readLogin(result)
	if err != nil {
		return nil, trove.Wrap(trove.KindUnavailable, err, "What Keystone answers to a login cannot be read.")
	}
	s.state.Store(l)
	return provider, provider.SetTokenAndAuthResult(result)
}

func readLogin(r tokens.CreateResult) (*login, error) {
	catalog, err := r.ExtractServiceCatalog()
	if err != nil {
		return nil, err
	}
	project, err := r.ExtractProject()
	if err != nil {
		return nil, err
	}
	user, err := r.ExtractUser()
	if err != nil {
		return nil, err
	}
	if project == nil || user == nil {
		return nil, errors.New("there is no project or no user in it")
	}
	return &login{catalog: catalog.Entries, project: project.ID, user: user.ID}, nil
}

// transport returns the connections for all requests.
func transport(cfg Config) (*http.Transport, error) {
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: maxConnections, IdleConnTimeout: idle,
		ResponseHeaderTimeout: cfg.Timeout, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if cfg.CAFile == "" {
		return t, nil
	}
	pem, err := os.ReadFile(cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read the certificate authorities of OpenStack: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: there is no certificate in PEM in it", cfg.CAFile)
	}
	t.TLSClientConfig.RootCAs = pool
	return t, nil
}

// Is reports whether an error says that OpenStack answered with one of the statuses.
func Is(err error, statuses ...int) bool {
	a, ok := AnswerOf(err)
	return ok && slices.Contains(statuses, a.Status)
}

// versioned returns a URL that ends with the version and a slash, whether it had one or not.
func versioned(url, version string) string {
	url = strings.TrimSuffix(url, "/")
	if last := url[strings.LastIndex(url, "/")+1:]; len(last) > 1 && last[0] == 'v' && last[1] >= '0' && last[1] <= '9' {
		return url + "/"
	}
	return url + "/" + version + "/"
}
