// Package local is a small Keystone of our own: users, projects, roles and tokens for a deployment that has no OpenStack. It speaks the part of
// the Identity API v3 that clients use, so that the openstack client, gophercloud and terraform work against a laptop.
//
// Service implements identity.Authenticator and http.Handler and may be used from several goroutines. Tokens are random; only their hash is
// stored. A revoked token is refused at once by the process that revoked it and within CacheTime by the others.
package local

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"log/slog"
	"net/http"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/identity"
	"github.com/trove-dbaas/trove/internal/clock"
)

// TokenLife is how long a token is valid.
const TokenLife = 12 * time.Hour

// CacheTime is how long a token is taken as valid without asking the store again.
const CacheTime = 30 * time.Second

// cacheSize bounds the memory that tokens can take.
const cacheSize = 4096

// DomainID and DomainName are those of the one domain that everything is in.
const (
	DomainID   = "default"
	DomainName = "Default"
)

// Config is what a Service needs.
type Config struct {
	Repository Repository
	Clock      clock.Clock
	Log        *slog.Logger
	// PublicURL is scheme://host:port of the API, without a path: where clients reach /identity and /v1.0. "": what the request's Host says.
	PublicURL string
	Region    string
	// Services are in the catalogue beside Trove and this one.
	Services []CatalogService
}

// CatalogService is a service that clients find in the catalogue.
type CatalogService struct{ Type, Name, URL string }

// Service is the local identity service.
type Service struct {
	cfg    Config
	hasher *hasher
	mux    http.Handler

	mu    sync.Mutex
	cache map[string]cached // by token hash
}

type cached struct {
	caller identity.Caller
	until  time.Time
}

// New returns a service over the repository. It does no input or output.
func New(cfg Config) *Service {
	s := &Service{cfg: cfg, hasher: newHasher(), cache: map[string]cached{}}
	s.mux = s.routes()
	return s
}

// AuthURL returns where tokens are to be had.
func (s *Service) AuthURL() string { return s.cfg.PublicURL + "/identity/v3" }

// EnsureAccount makes a user with the password and the roles in the project, making what is missing; it returns both ids. A user that is there gets
// the password. It may be repeated.
func (s *Service) EnsureAccount(ctx context.Context, user string, password trove.Secret, project string, roles ...string) (userID, projectID string, err error) {
	p, err := s.cfg.Repository.IdentityProject(ctx, project)
	if trove.IsNotFound(err) {
		p = Project{ID: hexID(), Name: project, Enabled: true}
		err = s.cfg.Repository.PutIdentityProject(ctx, p)
	}
	if err != nil {
		return "", "", err
	}
	u, err := s.cfg.Repository.IdentityUser(ctx, user)
	if err != nil && !trove.IsNotFound(err) {
		return "", "", err
	}
	if trove.IsNotFound(err) {
		u = User{ID: hexID(), Name: user}
	}
	same, err := s.hasher.matches(ctx, password, u.PasswordHash)
	if err != nil {
		return "", "", err
	}
	if !same || !u.Enabled {
		u.Enabled = true
		if u.PasswordHash, err = s.hasher.hash(ctx, password); err != nil {
			return "", "", err
		}
		if err := s.cfg.Repository.PutIdentityUser(ctx, u); err != nil {
			return "", "", err
		}
	}
	for _, r := range roles {
		if err := s.cfg.Repository.GrantIdentityRole(ctx, u.ID, p.ID, r); err != nil {
			return "", "", err
		}
	}
	return u.ID, p.ID, nil
}

// hexID returns an id in Keystone's form: 32 hexadecimal digits.
func hexID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func tokenHash(token trove.Secret) string {
	sum := sha256.Sum256([]byte(token.Reveal()))
	return hex.EncodeToString(sum[:])
}

// Authenticate returns who the token belongs to; see identity.Authenticator. No service is trusted here: a service token must be valid, and vouches for
// nothing.
func (s *Service) Authenticate(ctx context.Context, t identity.Tokens) (identity.Caller, error) {
	var service identity.Caller
	if t.Service != "" {
		var err error
		if service, err = s.authenticate(ctx, t.Service); err != nil {
			return identity.Caller{}, err
		}
	}
	c, err := s.authenticate(ctx, t.User)
	c.ServiceRoles = service.Roles
	return c, err
}

func (s *Service) authenticate(ctx context.Context, token trove.Secret) (identity.Caller, error) {
	if token == "" {
		return identity.Caller{}, errUnauthorized()
	}
	hash, now := tokenHash(token), s.cfg.Clock.Now()
	if c, ok := s.cachedCaller(hash, now); ok {
		c.Token = token
		return c, nil
	}
	c, err := s.lookUp(ctx, hash, now)
	if err != nil {
		return identity.Caller{}, err
	}
	s.remember(hash, c, now)
	c.Token = token
	return c, nil
}

func errUnauthorized() error {
	return trove.Errorf(trove.KindUnauthorized, "The request you have made requires authentication.")
}

func (s *Service) lookUp(ctx context.Context, hash string, now time.Time) (identity.Caller, error) {
	t, err := s.cfg.Repository.IdentityToken(ctx, hash)
	if trove.IsNotFound(err) {
		return identity.Caller{}, errUnauthorized()
	}
	if err != nil {
		return identity.Caller{}, unavailable(err)
	}
	if !t.Expires.After(now) {
		return identity.Caller{}, errUnauthorized()
	}
	u, err := s.cfg.Repository.IdentityUser(ctx, t.UserID)
	if trove.IsNotFound(err) || err == nil && !u.Enabled {
		return identity.Caller{}, errUnauthorized()
	}
	if err != nil {
		return identity.Caller{}, unavailable(err)
	}
	c := identity.Caller{UserID: u.ID, UserName: u.Name, UserDomainID: DomainID, Expires: t.Expires, IsAdminProject: true}
	if t.ProjectID == "" {
		return c, nil
	}
	p, roles, err := s.projectRoles(ctx, u.ID, t.ProjectID)
	if err != nil {
		return identity.Caller{}, err
	}
	c.ProjectID, c.ProjectName, c.ProjectDomainID, c.Roles = p.ID, p.Name, DomainID, roles
	return c, nil
}

// projectRoles returns the project and the user's roles in it; Unauthorized when there are none.
func (s *Service) projectRoles(ctx context.Context, userID, project string) (Project, []string, error) {
	p, err := s.cfg.Repository.IdentityProject(ctx, project)
	if trove.IsNotFound(err) || err == nil && !p.Enabled {
		return Project{}, nil, errUnauthorized()
	}
	if err != nil {
		return Project{}, nil, unavailable(err)
	}
	roles, err := s.cfg.Repository.IdentityRoles(ctx, userID, p.ID)
	if err != nil {
		return Project{}, nil, unavailable(err)
	}
	if len(roles) == 0 {
		return Project{}, nil, errUnauthorized()
	}
	return p, roles, nil
}

func unavailable(err error) error {
	return trove.Wrap(trove.KindUnavailable, err, "The identity service cannot be reached; try again.")
}

func (s *Service) cachedCaller(hash string, now time.Time) (identity.Caller, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.cache[hash]
	if !ok || now.After(c.until) || !c.caller.Expires.After(now) {
		return identity.Caller{}, false
	}
	return c.caller, true
}

func (s *Service) remember(hash string, c identity.Caller, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.cache) >= cacheSize {
		clear(s.cache) // rare, and cheaper than an order: each entry lives 30 s anyway
	}
	s.cache[hash] = cached{c, now.Add(CacheTime)}
}

func (s *Service) forget(hash string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.cache, hash)
}

// issue makes a token for a user, scoped to a project or not.
func (s *Service) issue(ctx context.Context, userID, projectID string) (trove.Secret, Token, error) {
	var b [32]byte
	_, _ = rand.Read(b[:])
	secret := trove.Secret(base64.RawURLEncoding.EncodeToString(b[:]))
	now := s.cfg.Clock.Now().Truncate(time.Second)
	t := Token{Hash: tokenHash(secret), UserID: userID, ProjectID: projectID, Issued: now, Expires: now.Add(TokenLife)}
	if err := s.cfg.Repository.PutIdentityToken(ctx, t); err != nil {
		return "", Token{}, unavailable(err)
	}
	if err := s.cfg.Repository.PruneIdentityTokens(ctx, now); err != nil {
		s.cfg.Log.WarnContext(ctx, "expired tokens were not removed", "err", err)
	}
	return secret, t, nil
}
