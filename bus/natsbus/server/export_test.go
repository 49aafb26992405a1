package server

import (
	"context"
	"crypto/tls"
	"time"

	"github.com/trove-dbaas/trove/internal/keyfile"
)

// AdoptAgain makes the guard forget all guests and look which are connected, as it does at its start. It returns how many it knows then.
func (s *Server) AdoptAgain() (int, error) {
	g := s.guard
	g.mu.Lock()
	clear(g.byID)
	clear(g.byKey)
	g.here = 0
	g.mu.Unlock()
	err := g.adopt()
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.byID), err
}

// RollOnce looks at the CA's replacement once, as the broker does every second.
func (s *Server) RollOnce(ctx context.Context) ([]string, error) {
	waiting, _, err := s.rollOnce(ctx)
	return waiting, err
}

// Routes is how many brokers this one is connected to.
func (s *Server) Routes() int { return s.broker.NumRemotes() }

// Kill ends the broker as a crash does: nobody is told.
func (s *Server) Kill() {
	s.broker.Shutdown()
	_ = s.enrol.Close()
}

// The decisions on time.
var (
	LeafDue   = leafDue
	CADue     = caDue
	JitterFor = jitterFor
	MakeCA    = makeCA
)

// IssueLeaf makes a server certificate.
func IssueLeaf(kept keyfile.Keeper, now time.Time, life time.Duration) (*tls.Certificate, error) {
	s, err := readState(kept)
	if err != nil {
		return nil, err
	}
	return s.issue([]string{"127.0.0.1"}, now, life)
}
