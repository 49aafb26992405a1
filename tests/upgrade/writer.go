package main

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync"
	"time"
)

// write is a write that was acknowledged.
type write struct {
	n  int
	at time.Time
}

// writer writes a row 20 times a second and keeps what was acknowledged. A write that fails is not tried again: the next one has another number.
type writer struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu     sync.Mutex
	writes []write
}

func (b *bench) write(ctx context.Context) *writer {
	ctx, cancel := context.WithCancel(ctx)
	w := &writer{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for n := 1; ctx.Err() == nil; n++ {
			if _, err := b.db.ExecContext(ctx, fmt.Sprintf(b.engine.insert, n)); err == nil {
				w.mu.Lock()
				w.writes = append(w.writes, write{n, time.Now()})
				w.mu.Unlock()
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	}()
	return w
}

func (w *writer) stop() {
	w.cancel()
	<-w.done
}

func (w *writer) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.writes)
}

// longest returns the longest time between two writes that were acknowledged since a moment, and when it began.
func (w *writer) longest(since time.Time) (gap time.Duration, began time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n := 1; n < len(w.writes); n++ {
		if d := w.writes[n].at.Sub(w.writes[n-1].at); w.writes[n].at.After(since) && d > gap {
			gap, began = d, w.writes[n-1].at
		}
	}
	return gap, began
}

// forget drops the writes after one moment and up to another, which the way back loses.
func (w *writer) forget(after, until time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes = slices.DeleteFunc(w.writes, func(x write) bool { return x.at.After(after) && !x.at.After(until) })
}

// allThere looks for every write that was acknowledged.
func (w *writer) allThere(ctx context.Context, db *sql.DB) error {
	rows, err := db.QueryContext(ctx, "SELECT n FROM writes")
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // they are read to the end
	there := map[int]bool{}
	for rows.Next() {
		var n int
		if err := rows.Scan(&n); err != nil {
			return err
		}
		there[n] = true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	lost := 0
	for _, x := range w.writes {
		if !there[x.n] && time.Since(x.at) > time.Second { // newer than the query
			lost++
		}
	}
	if lost > 0 {
		return fmt.Errorf("%d of %d writes that were acknowledged are not there", lost, len(w.writes))
	}
	return rows.Err()
}
