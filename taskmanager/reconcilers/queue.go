package reconcilers

import (
	"maps"
	"slices"
	"sync"
)

// Queue holds the instances that shall be deleted as soon as their operation is closed. It only saves time: the loop finds them too. It may
// be used from several goroutines.
type Queue struct {
	mu      sync.Mutex
	ids     map[string]struct{}
	arrived chan struct{}
}

// NewQueue returns an empty queue.
func NewQueue() *Queue { return &Queue{ids: map[string]struct{}{}, arrived: make(chan struct{}, 1)} }

// Add puts an instance into the queue, once. It never blocks.
func (q *Queue) Add(id string) {
	q.mu.Lock()
	q.ids[id] = struct{}{}
	q.mu.Unlock()
	select {
	case q.arrived <- struct{}{}:
	default:
	}
}

// take empties the queue.
func (q *Queue) take() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	ids := slices.Collect(maps.Keys(q.ids))
	clear(q.ids)
	return ids
}
