package server

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// RevokedKey is a guest's key that every broker refuses until the credentials made for it have expired.
type RevokedKey struct {
	InstanceID string
	PublicKey  string
	At         time.Time
	Expires    time.Time
}

// Repository is what brokers keep in the store. Its methods may be repeated and called from several goroutines.
type Repository interface {
	// AddRevokedKey notes a revoked key; one that is noted keeps the later expiry.
	AddRevokedKey(ctx context.Context, instance, publicKey string, at, expires time.Time) error
	// RevokedKeys returns all of them, ordered by key.
	RevokedKeys(ctx context.Context) ([]RevokedKey, error)
	// PruneRevokedKeys drops those that expired before now.
	PruneRevokedKeys(ctx context.Context, now time.Time) error

	// PutController writes the row of a broker, which replaces that with the same id.
	PutController(ctx context.Context, row ControllerRow) error
	// Controllers returns the rows of all brokers, ordered by id.
	Controllers(ctx context.Context) ([]ControllerRow, error)
	// GuestTrusts returns what the guests of living instances that have enrolled were told last, ordered by instance.
	GuestTrusts(ctx context.Context) ([]GuestTrust, error)
}

// Guests is what the broker asks about guests. Its methods may be called from several goroutines.
type Guests interface {
	// UseEnrolmentToken takes a token and notes the guest's key, in one step. Unknown or expired is KindUnauthorized; used is KindConflict, with
	// the instance, unless the same key asks again shortly after.
	UseEnrolmentToken(ctx context.Context, tokenHash, publicKey string) (instance string, err error)
	// TokenOwner returns the living instance whose enrolment token this is, used or not; KindNotFound if it is nobody's. It must be cheap.
	TokenOwner(ctx context.Context, tokenHash string) (instance string, err error)
	// GuestKey returns the key that the instance's guest has now; KindNotFound if the instance does not live or its guest has not enrolled,
	// KindForbidden if its credential must not be renewed.
	GuestKey(ctx context.Context, instance string) (publicKey string, err error)
	// CredentialIssued notes the credential that was given last: until when it is good, and what its Trust tells the guest. The latter is
	// "" where the guest may have missed it and still use an older one.
	CredentialIssued(ctx context.Context, instance string, expires time.Time, trust string) error
}

// MemoryRepository is a Repository for tests.
type MemoryRepository struct {
	mu          sync.Mutex
	keys        map[string]RevokedKey
	controllers map[string]ControllerRow
	trusts      map[string]GuestTrust
}

var _ Repository = (*MemoryRepository)(nil)

// NewMemoryRepository returns a Repository without keys.
func NewMemoryRepository() *MemoryRepository {
	return &MemoryRepository{keys: map[string]RevokedKey{}, controllers: map[string]ControllerRow{}, trusts: map[string]GuestTrust{}}
}

// AddRevokedKey implements Repository.
func (m *MemoryRepository) AddRevokedKey(_ context.Context, instance, publicKey string, at, expires time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, ok := m.keys[publicKey]; ok && old.Expires.After(expires) {
		return nil
	}
	m.keys[publicKey] = RevokedKey{InstanceID: instance, PublicKey: publicKey, At: at, Expires: expires}
	return nil
}

// RevokedKeys implements Repository.
func (m *MemoryRepository) RevokedKeys(context.Context) ([]RevokedKey, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]RevokedKey, 0, len(m.keys))
	for _, k := range m.keys {
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b RevokedKey) int { return strings.Compare(a.PublicKey, b.PublicKey) })
	return all, nil
}

// PruneRevokedKeys implements Repository.
func (m *MemoryRepository) PruneRevokedKeys(_ context.Context, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for public, k := range m.keys {
		if k.Expires.Before(now) {
			delete(m.keys, public)
		}
	}
	return nil
}

// PutController implements Repository.
func (m *MemoryRepository) PutController(_ context.Context, row ControllerRow) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.controllers[row.ID] = row
	return nil
}

// Controllers implements Repository.
func (m *MemoryRepository) Controllers(context.Context) ([]ControllerRow, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Values(m.controllers), func(a, b ControllerRow) int { return strings.Compare(a.ID, b.ID) }), nil
}

// SetGuestTrust says what a guest was told, and when it was heard of.
func (m *MemoryRepository) SetGuestTrust(g GuestTrust) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trusts[g.InstanceID] = g
}

// GuestTrusts implements Repository.
func (m *MemoryRepository) GuestTrusts(context.Context) ([]GuestTrust, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Values(m.trusts), func(a, b GuestTrust) int { return strings.Compare(a.InstanceID, b.InstanceID) }), nil
}
