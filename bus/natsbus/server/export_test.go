package server

// AdoptAgain makes the guard forget all guests and look which are connected, as it does at its start. It returns how many it knows then.
func (s *Server) AdoptAgain() (int, error) {
	g := s.guard
	g.mu.Lock()
	clear(g.byID)
	clear(g.byKey)
	g.mu.Unlock()
	err := g.adopt()
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.byID), err
}
