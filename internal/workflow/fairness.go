package workflow

import "sync"

// shares keep one project from having all workers: steps that wait for guests that do not answer, which a tenant can make of its own, hold a worker for seconds. A
// quarter of the workers, at least one, is always left for the others.
type shares struct {
	most int

	mu      sync.Mutex
	running map[string]int
	waiting map[string]bool // projects that had to wait since one of theirs ended
}

func newShares(workers int) shares {
	return shares{most: max(1, workers-max(1, workers/4)), running: map[string]int{}, waiting: map[string]bool{}}
}

// take reports whether the project may have a worker, and gives it one.
func (s *shares) take(project string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[project] >= s.most {
		s.waiting[project] = true
		return false
	}
	s.running[project]++
	return true
}

// give takes the worker back and reports whether the project waits for one.
func (s *shares) give(project string) (waiting bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[project]--; s.running[project] <= 0 {
		delete(s.running, project)
	}
	waiting = s.waiting[project]
	delete(s.waiting, project)
	return waiting
}
