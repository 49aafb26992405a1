package swift

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"github.com/trove-dbaas/trove/internal/clock"
)

// Locks lets the writers of one name follow each other, in all processes of the deployment.
type Locks interface {
	// Lock waits until it has the name, or ctx ends. What is done under it is done with the context that it returns, which ends before somebody else can have the name.
	Lock(ctx context.Context, name string) (held context.Context, unlock func(), err error)
}

// Claims is what Shared keeps in the store of the control plane.
type Claims interface {
	// Claim gives a name to an owner until a time, unless another one has it. It reports whether he has it now.
	Claim(ctx context.Context, name, owner string, now, until time.Time) (bool, error)
	// Unclaim gives it back; it is fine if he does not have it.
	Unclaim(ctx context.Context, name, owner string) error
}

// Shared are the locks of all processes that share a store. The zero Claims are those of this process alone.
type Shared struct {
	Claims Claims      // nil: no other process writes
	Clock  clock.Clock // that the processes share, as far as their machines do

	mu    sync.Mutex
	names map[string]*name
}

// name is one that somebody in this process has or waits for.
type name struct {
	turn  chan struct{} // has room for one, who has it
	users int
}

const (
	// held is how long one may work under a lock; claimed is longer, for clocks that differ.
	held     = 2 * time.Minute
	claimed  = held + 30*time.Second
	looks    = 50 * time.Millisecond
	giveBack = 10 * time.Second
)

var _ Locks = (*Shared)(nil)

// Lock implements Locks.
func (l *Shared) Lock(ctx context.Context, what string) (context.Context, func(), error) {
	sum := sha256.Sum256([]byte(what))
	key := hex.EncodeToString(sum[:])
	n := l.use(key)
	select {
	case n.turn <- struct{}{}:
	case <-ctx.Done():
		l.leave(key, n)
		return nil, nil, fmt.Errorf("wait for another writer: %w", ctx.Err())
	}
	release, err := l.claim(ctx, key)
	if err != nil {
		<-n.turn
		l.leave(key, n)
		return nil, nil, err
	}
	work, cancel := context.WithTimeout(ctx, held)
	return work, func() {
		cancel()
		release()
		<-n.turn
		l.leave(key, n)
	}, nil
}

func (l *Shared) use(key string) *name {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.names == nil {
		l.names = map[string]*name{}
	}
	n := l.names[key]
	if n == nil {
		n = &name{turn: make(chan struct{}, 1)}
		l.names[key] = n
	}
	n.users++
	return n
}

func (l *Shared) leave(key string, n *name) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n.users--; n.users == 0 {
		delete(l.names, key)
	}
}

// claim takes the name from other processes.
func (l *Shared) claim(ctx context.Context, key string) (release func(), err error) {
	if l.Claims == nil {
		return func() {}, nil
	}
	owner := rand.Text()
	for {
		now := l.Clock.Now()
		has, err := l.Claims.Claim(ctx, key, owner, now, now.Add(claimed))
		if err != nil {
			return nil, fmt.Errorf("wait for another writer: %w", err)
		}
		if has {
			return func() {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBack)
				defer cancel()
				_ = l.Claims.Unclaim(ctx, key, owner) // it ends by itself
			}, nil
		}
		if err := clock.Sleep(ctx, looks); err != nil {
			return nil, fmt.Errorf("wait for another writer: %w", err)
		}
	}
}
