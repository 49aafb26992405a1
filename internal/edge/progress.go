package edge

import (
	"net/http"
	"time"

	"github.com/trove-dbaas/trove/internal/clock"
)

// WriteProgress cuts the connections of clients that take nothing: each write has to be done within the time. Until there is something to write nothing
// runs out, so that long polls may last.
func WriteProgress(clk clock.Clock, within time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := &progress{ResponseWriter: w, control: http.NewResponseController(w), clock: clk, within: within}
		next.ServeHTTP(p, r)
		p.extend() // what is still in buffers
	})
}

type progress struct {
	http.ResponseWriter
	control *http.ResponseController
	clock   clock.Clock
	within  time.Duration
}

func (p *progress) extend() {
	_ = p.control.SetWriteDeadline(p.clock.Now().Add(p.within)) // a writer that has none, in a test, never waits either
}

func (p *progress) Write(b []byte) (int, error) {
	p.extend()
	return p.ResponseWriter.Write(b) //nolint:wrapcheck // as if it were not here
}

// Unwrap is for http.ResponseController.
func (p *progress) Unwrap() http.ResponseWriter { return p.ResponseWriter }
