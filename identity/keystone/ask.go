package keystone

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/identity"
)

// maxQuestions is how many tokens Keystone is asked about at once; further ones wait for their turn within their timeout.
const maxQuestions = 32

// maxAnswer bounds what is read of an answer. A catalogue of hundreds of services is far below.
const maxAnswer = 8 << 20

// idle is how long a connection to Keystone is kept that nobody uses.
const idle = time.Minute

// newHTTP returns the client for all requests to Keystone. It follows no redirection: the headers of a request are tokens.
func newHTTP(cfg *Config) (*http.Client, error) {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: maxQuestions, IdleConnTimeout: idle,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the certificate authorities of Keystone: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: there is no certificate in PEM in it", cfg.CAFile)
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	return &http.Client{
		Transport: limited{transport}, Timeout: cfg.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// limited cuts answers that are too long.
type limited struct{ *http.Transport }

// RoundTrip is http.RoundTripper.RoundTrip.
func (l limited) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.Transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	return resp, nil
}

// validate asks Keystone about a token: GET /v3/auth/tokens, without the catalogue, which nothing here needs.
func (a *Authenticator) validate(ctx context.Context, token trove.Secret, mayBeExpired bool) (identity.Caller, error) {
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	case <-ctx.Done():
		return identity.Caller{}, unavailable(fmt.Errorf("wait for %d other questions: %w", maxQuestions, ctx.Err()))
	}
	client, err := a.session(ctx)
	if err != nil {
		return identity.Caller{}, err
	}
	address := client.ServiceURL("auth", "tokens") + "?nocatalog"
	if mayBeExpired {
		address += "&allow_expired=1"
	}
	var body answer
	_, err = client.Get(ctx, address, &body, &gophercloud.RequestOpts{ //nolint:bodyclose // it is read and closed
		MoreHeaders: map[string]string{"X-Subject-Token": token.Reveal()}, OkCodes: []int{http.StatusOK, http.StatusNonAuthoritativeInfo},
	})
	switch status := statusOf(err); {
	case err == nil:
		return body.caller()
	case status == http.StatusNotFound:
		return identity.Caller{}, errUnauthorized()
	case status == http.StatusForbidden:
		return identity.Caller{}, unavailable(fmt.Errorf("the user %s may not check tokens: give it the role service or admin in the project %s: %w",
			a.cfg.Username, a.cfg.Project, told(err)))
	}
	return identity.Caller{}, unavailable(told(err))
}

// session returns a client that is logged in. When its token ends it logs in again by itself.
func (a *Authenticator) session(ctx context.Context) (*gophercloud.ServiceClient, error) {
	a.mu.Lock()
	client := a.client
	a.mu.Unlock()
	if client != nil {
		return client, nil
	}
	return a.logins.do(ctx, struct{}{}, func(ctx context.Context) (*gophercloud.ServiceClient, error) {
		client, err := a.logIn(ctx)
		if err != nil {
			return nil, unavailable(&loginError{err})
		}
		client.ReauthFunc = func(ctx context.Context) error {
			// All who find the token refused wait for this one, so it is not bound to the first of them.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.Timeout)
			defer cancel()
			again, err := a.logIn(ctx)
			if err != nil {
				return &loginError{err}
			}
			client.CopyTokenFrom(again.ProviderClient)
			return nil
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.client = client
		return client, nil
	})
}

// logIn returns a client with a token of the service user and the address of Keystone's endpoint in the catalogue.
func (a *Authenticator) logIn(ctx context.Context) (*gophercloud.ServiceClient, error) {
	password, err := a.cfg.Password()
	if err != nil {
		return nil, fmt.Errorf("read the password of the user %s: %w", a.cfg.Username, err)
	}
	provider, err := openstack.NewClient(a.cfg.AuthURL)
	if err != nil {
		return nil, fmt.Errorf("the address of Keystone: %w", err)
	}
	provider.HTTPClient = *a.http
	provider.UserAgent.Prepend("trove-api")
	err = openstack.Authenticate(ctx, provider, gophercloud.AuthOptions{
		IdentityEndpoint: a.cfg.AuthURL, Username: a.cfg.Username, DomainName: a.cfg.UserDomain, Password: password.Reveal(),
		Scope: &gophercloud.AuthScope{ProjectName: a.cfg.Project, DomainName: a.cfg.ProjectDomain},
	})
	if statusOf(err) == http.StatusUnauthorized {
		return nil, fmt.Errorf("the user %s of the domain %s cannot log in to the project %s: check name, password and role: %w",
			a.cfg.Username, a.cfg.UserDomain, a.cfg.Project, told(err))
	}
	if err != nil {
		return nil, told(err)
	}
	client, err := openstack.NewIdentityV3(provider, gophercloud.EndpointOpts{
		Region: a.cfg.Region, Availability: gophercloud.Availability(a.cfg.Interface),
	})
	if err != nil {
		return nil, fmt.Errorf("the catalogue has no %s endpoint of identity in the region %q: %w", a.cfg.Interface, a.cfg.Region, told(err))
	}
	return client, nil
}

// loginError is why the service user could not log in, in words that may be told.
type loginError struct{ cause error }

// Error is error.Error.
func (e *loginError) Error() string { return "log in to Keystone: " + e.cause.Error() }

// Unwrap returns the cause.
func (e *loginError) Unwrap() error { return e.cause }

func unavailable(err error) error {
	return trove.Wrap(trove.KindUnavailable, err, "The Keystone service is temporarily unavailable.")
}

// statusOf returns the HTTP status that an error is about, also the one after logging in again; 0: none.
func statusOf(err error) int {
	if after, ok := errors.AsType[*gophercloud.ErrErrorAfterReauthentication](err); ok {
		return statusOf(after.ErrOriginal)
	}
	if answered, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err); ok {
		return answered.Actual
	}
	return 0
}

// told returns what may be told of an error: gophercloud's have the answer's body in their texts, and nobody knows what stands in that.
func told(err error) error {
	if after, ok := errors.AsType[*gophercloud.ErrErrorAfterReauthentication](err); ok {
		return fmt.Errorf("after a new login: %w", told(after.ErrOriginal))
	}
	if again, ok := errors.AsType[*gophercloud.ErrUnableToReauthenticate](err); ok {
		return told(again.ErrReauth)
	}
	if answered, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err); ok {
		return fmt.Errorf("%s %s was answered with %d", answered.Method, answered.URL, answered.Actual)
	}
	if login, ok := errors.AsType[*loginError](err); ok {
		return login
	}
	if there, ok := errors.AsType[*url.Error](err); ok {
		return there
	}
	if _, ok := errors.AsType[*trove.Error](err); ok {
		return err
	}
	for _, known := range []error{context.DeadlineExceeded, context.Canceled, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, known) {
			return known
		}
	}
	return fmt.Errorf("the answer is none of Keystone's (%T)", err)
}
