package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/jwt/v2"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/guestapi"
)

// ownName stands in a scope for the name in a user's JWT.
const ownName = "{{name()}}"

// guestScope is all that a guest may do. It is part of the account: a guest's JWT holds a name and nothing else, and one that claims
// more is refused.
func guestScope(key string) *jwt.UserScope {
	s := jwt.NewUserScope()
	s.Key, s.Role = key, "guest"
	s.Template = jwt.UserPermissionLimits{
		Permissions: jwt.Permissions{
			Sub:  jwt.Permission{Allow: jwt.StringList{guestapi.CommandSubject(ownName)}},
			Pub:  jwt.Permission{Allow: jwt.StringList{guestapi.ReportSubject(ownName, "*")}},
			Resp: &jwt.ResponsePermission{MaxMsgs: 1, Expires: 30 * time.Second},
		},
		Limits: jwt.Limits{
			UserLimits: jwt.UserLimits{Src: jwt.CIDRList{}},
			NatsLimits: jwt.NatsLimits{Subs: 4, Data: jwt.NoLimit, Payload: guestapi.MaxMessage},
		},
		AllowedConnectionTypes: jwt.StringList{jwt.ConnectionTypeStandard},
	}
	return s
}

// inboxPrefix is where a controller receives answers.
func inboxPrefix(name string) string { return "_INBOX.ctl." + name }

func controllerScope(key string) *jwt.UserScope {
	s := jwt.NewUserScope()
	s.Key, s.Role = key, "controller"
	s.Template = jwt.UserPermissionLimits{
		Permissions: jwt.Permissions{
			Sub: jwt.Permission{Allow: jwt.StringList{guestapi.AllReports, "trove.v1.ctl.>", inboxPrefix(ownName) + ".>"}},
			Pub: jwt.Permission{Allow: jwt.StringList{guestapi.CommandSubject("*"), "trove.v1.ctl.>"}},
		},
		Limits: jwt.Limits{
			UserLimits: jwt.UserLimits{Src: jwt.CIDRList{}},
			NatsLimits: jwt.NatsLimits{Subs: jwt.NoLimit, Data: jwt.NoLimit, Payload: jwt.NoLimit},
		},
		AllowedConnectionTypes: jwt.StringList{jwt.ConnectionTypeStandard, jwt.ConnectionTypeInProcess},
	}
	return s
}

// accounts holds the trust chain of the brokers: operator, system account and the account of guests and controllers.
type accounts struct {
	keys     *keys
	resolver *natsserver.MemAccResolver

	mu      sync.Mutex
	revoked map[string]time.Time // key → when its credentials have expired
}

func newAccounts(k *keys) (*accounts, error) {
	a := &accounts{keys: k, resolver: &natsserver.MemAccResolver{}, revoked: map[string]time.Time{}}
	system := jwt.NewAccountClaims(public(k.system))
	system.Name = "SYS"
	system.SigningKeys.Add(public(k.systemSigner))
	text, err := system.Encode(k.operatorSigner)
	if err != nil {
		return nil, fmt.Errorf("sign the system account: %w", err)
	}
	if err := a.resolver.Store(public(k.system), text); err != nil {
		return nil, fmt.Errorf("store the system account: %w", err)
	}
	if _, err := a.publish(); err != nil {
		return nil, err
	}
	return a, nil
}

// operator is what brokers trust. Strict signing: without it the account's identity key could sign users without limits.
func (a *accounts) operator() (*jwt.OperatorClaims, error) {
	oc := jwt.NewOperatorClaims(public(a.keys.operator))
	oc.Name = "trove"
	oc.StrictSigningKeyUsage = true
	oc.SigningKeys.Add(public(a.keys.operatorSigner))
	oc.SystemAccount = public(a.keys.system)
	text, err := oc.Encode(a.keys.operator)
	if err != nil {
		return nil, fmt.Errorf("sign the operator: %w", err)
	}
	oc, err = jwt.DecodeOperatorClaims(text)
	if err != nil {
		return nil, fmt.Errorf("read the operator: %w", err)
	}
	return oc, nil
}

// publish signs the account with the revocations known now and gives it to the resolver.
func (a *accounts) publish() (*jwt.AccountClaims, error) {
	ac := jwt.NewAccountClaims(public(a.keys.account))
	ac.Name = "trove"
	ac.Limits.DisallowBearer = true
	ac.Limits.Imports, ac.Limits.Exports, ac.Limits.LeafNodeConn, ac.Limits.WildcardExports = 0, 0, 0, false
	ac.SigningKeys.AddScopedSigner(guestScope(public(a.keys.guestSigner)))
	ac.SigningKeys.AddScopedSigner(controllerScope(public(a.keys.controllerSigner)))
	for key, expires := range a.revoked {
		ac.RevokeAt(key, expires.Add(badClock)) // until then: also credentials that were issued after the revocation are refused
	}
	text, err := ac.Encode(a.keys.operatorSigner)
	if err != nil {
		return nil, fmt.Errorf("sign the account: %w", err)
	}
	if ac, err = jwt.DecodeAccountClaims(text); err != nil {
		return nil, fmt.Errorf("read the account: %w", err)
	}
	if err := a.resolver.Store(public(a.keys.account), text); err != nil {
		return nil, fmt.Errorf("store the account: %w", err)
	}
	return ac, nil
}

// setRevoked takes the list of revoked keys and returns the new account, nil if the list is the one known already: a change costs the
// broker a look at each of its clients.
func (a *accounts) setRevoked(list []RevokedKey, now time.Time) (*jwt.AccountClaims, error) {
	next := map[string]time.Time{}
	for _, k := range list {
		if k.Expires.After(now.Add(-badClock)) {
			next[k.PublicKey] = k.Expires
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if maps.EqualFunc(next, a.revoked, time.Time.Equal) {
		return nil, nil //nolint:nilnil // nothing changed
	}
	a.revoked = next
	return a.publish()
}

// badClock is how far a clock may be wrong without a revoked key being accepted again: a row is kept so much longer than the credentials that were
// made for the key.
const badClock = 8 * 24 * time.Hour

func (a *accounts) isRevoked(key string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.revoked[key]
	return ok
}

// issueGuest is the only function that mints identities of guests. A name that is no UUID could be a wildcard: a guest named "*" would
// receive the commands of all.
func (a *accounts) issueGuest(instance, publicKey string, expires time.Time) (string, error) {
	switch {
	case !trove.ValidID(instance):
		return "", trove.Permanent(trove.Errorf(trove.KindBadRequest, "%q is not the id of an instance.", instance))
	case !nkeys.IsValidPublicUserKey(publicKey):
		return "", trove.Permanent(trove.Errorf(trove.KindBadRequest, "The guest's public key is not valid."))
	case a.isRevoked(publicKey):
		return "", trove.Permanent(trove.Wrap(trove.KindForbidden, bus.ErrForbidden, "The guest's key was revoked."))
	}
	uc := jwt.NewUserClaims(publicKey)
	uc.Name, uc.Expires, uc.IssuerAccount = instance, expires.Unix(), public(a.keys.account)
	uc.SetScoped(true)
	text, err := uc.Encode(a.keys.guestSigner)
	if err != nil {
		return "", fmt.Errorf("sign the guest's credential: %w", err)
	}
	return text, nil
}

// issueController makes the identity of a controller's connection in this process. It has no expiry because its key never
// leaves the process.
func (a *accounts) issueController(name, publicKey string) (string, error) {
	return a.keys.controller(name, publicKey, time.Time{})
}

// The events that the broker itself reports.
const (
	connectEvents    = "$SYS.ACCOUNT.*.CONNECT"
	disconnectEvents = "$SYS.ACCOUNT.*.DISCONNECT"
)

func (a *accounts) issueSystem(publicKey string) (string, error) {
	uc := jwt.NewUserClaims(publicKey)
	uc.Name, uc.IssuerAccount = "guard", public(a.keys.system)
	uc.Sub.Allow = jwt.StringList{connectEvents, disconnectEvents}
	uc.Pub.Deny = jwt.StringList{">"}
	uc.AllowedConnectionTypes = jwt.StringList{jwt.ConnectionTypeInProcess}
	return uc.Encode(a.keys.systemSigner)
}

var errBroker = errors.New("the broker does not know its own account")

// RevokeGuest implements bus.Issuer.
func (s *Server) RevokeGuest(ctx context.Context, instance, publicKey string) error {
	if !nkeys.IsValidPublicUserKey(publicKey) {
		return trove.Permanent(trove.Errorf(trove.KindBadRequest, "The guest's public key is not valid."))
	}
	now := s.cfg.Clock.Now()
	expires := now.Add(s.cfg.CredentialLife + time.Minute)
	if err := s.cfg.Repository.AddRevokedKey(ctx, instance, publicKey, now, expires); err != nil {
		return fmt.Errorf("revoke the key of instance %s: %w", instance, err)
	}
	if err := s.applyRevoked(ctx); err != nil {
		return fmt.Errorf("revoke the key of instance %s: %w", instance, err)
	}
	s.log.InfoContext(ctx, "guest key revoked", "instance", instance)
	if err := s.control.Publish(ctx, guestapi.AccountSubject, nil); err != nil {
		return fmt.Errorf("tell other brokers of the revoked key of instance %s: %w", instance, err)
	}
	return nil
}

// applyRevoked reads the revoked keys and cuts their connections.
func (s *Server) applyRevoked(ctx context.Context) error {
	list, err := s.cfg.Repository.RevokedKeys(ctx)
	if err != nil {
		return fmt.Errorf("read the revoked keys: %w", err)
	}
	claims, err := s.accounts.setRevoked(list, s.cfg.Clock.Now())
	if err != nil || claims == nil {
		return err
	}
	account, err := s.broker.LookupAccount(public(s.accounts.keys.account))
	if err != nil {
		return errors.Join(errBroker, err)
	}
	s.broker.UpdateAccountClaims(account, claims)
	return nil
}

// watchRevoked keeps the list current, whatever messages were lost, and prunes it.
func (s *Server) watchRevoked(ctx context.Context) {
	ticker := time.NewTicker(3 * time.Second)
	defer ticker.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-s.accountChanged:
		}
		callCtx, cancel := context.WithTimeout(ctx, 4*time.Second)
		err := s.applyRevoked(callCtx)
		if err == nil && i%200 == 0 {
			err = s.cfg.Repository.PruneRevokedKeys(callCtx, s.cfg.Clock.Now().Add(-badClock))
		}
		cancel()
		if err != nil && ctx.Err() == nil {
			s.log.Warn("revoked keys could not be applied", "err", err)
		}
	}
}

// guestsPerSecond is how many guests may connect in a second when all come at once; minJitter is the least that they spread over.
const (
	guestsPerSecond = 500
	minJitter       = time.Second
)

// jitter is what guests shall wait at most before they connect again.
func (s *Server) jitter() time.Duration {
	if s.guard == nil {
		return minJitter
	}
	return jitterFor(s.guard.guests())
}

func jitterFor(guests int) time.Duration {
	return max(minJitter, time.Duration(guests)*time.Second/guestsPerSecond)
}

// IssueGuest implements bus.Issuer. The caller has made sure that the key is the instance's.
func (s *Server) IssueGuest(ctx context.Context, instance, publicKey string) (bus.Credential, error) {
	if err := ctx.Err(); err != nil {
		return bus.Credential{}, fmt.Errorf("issue a credential: %w", err)
	}
	expires := s.cfg.Clock.Now().Add(s.cfg.CredentialLife).Truncate(time.Second)
	text, err := s.accounts.issueGuest(instance, publicKey, expires)
	if err != nil {
		return bus.Credential{}, fmt.Errorf("issue a credential for instance %s: %w", instance, err)
	}
	t := s.told.Load()
	return bus.Credential{
		JWT: text, Expires: expires, Addresses: slices.Clone(t.addresses), CABundle: s.authority.bundle(), EnrolURLs: slices.Clone(t.enrolURLs),
		ReconnectJitter: s.jitter(),
	}, nil
}
