package server

import (
	"context"
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
}

// Guests is what the broker asks about guests. Its methods may be called from several goroutines.
type Guests interface {
	// UseEnrolmentToken takes a token and notes the guest's key, in one step. Unknown or expired is KindUnauthorized; used is KindConflict,
	// unless the same key asks again shortly after.
	UseEnrolmentToken(ctx context.Context, tokenHash, publicKey string) (instance string, err error)
	// GuestKey returns the key that the instance's guest has now; KindNotFound if the instance does not live or its guest has not enrolled.
	GuestKey(ctx context.Context, instance string) (publicKey string, err error)
	// CredentialIssued notes until when the credential is good that was given last.
	CredentialIssued(ctx context.Context, instance string, expires time.Time) error
}

// MemoryRepository is a Repository for tests.
type MemoryRepository struct {
	mu   sync.Mutex
	keys map[string]RevokedKey
}

var _ Repository = (*MemoryRepository)(nil)

// NewMemoryRepository returns a Repository without keys.
func NewMemoryRepository() *MemoryRepository { return &MemoryRepository{keys: map[string]RevokedKey{}} }

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
