package edge

import "time"

// SetLinger changes how long connections that are kept open may still bring a request when the server stops.
func (s *Server) SetLinger(d time.Duration) { s.linger = d }
