package gateway

import (
	"context"
	"fmt"
	"sync"

	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/gateway/grant"
)

// budgets counts what lies under the prefixes of grants. It keeps nothing: where a prefix is not being written to, the store knows, also after a restart.
type budgets struct {
	store func(backupstore.Container) backupstore.Store

	mu       sync.Mutex
	accounts map[place]*account
}

type place struct {
	backupstore.Container
	prefix string
}

// account is a prefix that is being written to.
type account struct {
	place place
	users int // guarded by budgets.mu

	mu    sync.Mutex
	known bool
	used  int64 // stored and on the way
}

func newBudgets(s func(backupstore.Container) backupstore.Store) *budgets {
	return &budgets{store: s, accounts: map[place]*account{}}
}

// open returns the account of a grant's prefix; it is closed by close.
func (b *budgets) open(ctx context.Context, g grant.Grant) (*account, error) {
	at := place{g.Container, g.Prefix}
	b.mu.Lock()
	a := b.accounts[at]
	if a == nil {
		a = &account{place: at}
		b.accounts[at] = a
	}
	a.users++
	b.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known {
		return a, nil
	}
	all, err := b.store(at.Container).List(ctx, at.Container, backupstore.ListOptions{Prefix: at.prefix})
	if err != nil {
		b.close(a)
		return nil, fmt.Errorf("count what was stored: %w", err)
	}
	for _, o := range all {
		a.used += o.Size
	}
	a.known = true
	return a, nil
}

func (b *budgets) close(a *account) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a.users--; a.users == 0 {
		delete(b.accounts, a.place)
	}
}

// take takes n bytes of at most limit, or none.
func (a *account) take(n, limit int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n > limit-a.used {
		return false
	}
	a.used += n
	return true
}

func (a *account) give(n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.used -= n
}
