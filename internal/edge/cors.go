package edge

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// CORS says which pages of other origins may call the service from a browser. It means what oslo.middleware's section [cors] means.
type CORS struct {
	Origins     []string // https://host[:port]; "*": all, then without credentials. None: no page may
	Credentials bool
	Expose      []string // headers of answers that a page may read
	Methods     []string
	Headers     []string // headers that a page may send
	MaxAge      time.Duration
}

// simpleHeaders may always be sent.
var simpleHeaders = []string{"Accept", "Accept-Language", "Content-Type", "Cache-Control", "Content-Language", "Expires", "Last-Modified", "Pragma"}

// Handler answers browsers' questions before a request (OPTIONS) and marks the answers of next. A question is answered 200 in any case, without the
// headers when the page may not: the browser then keeps the request back. An OPTIONS that is none goes to next.
func (c CORS) Handler(next http.Handler) http.Handler {
	if len(c.Origins) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Origin") // also without one: a cache must not hand the answer to a page
		origin := r.Header.Get("Origin")
		if r.Method == http.MethodOptions && origin != "" {
			c.preflight(w, r, origin)
			w.WriteHeader(http.StatusOK)
			return
		}
		if c.allow(w, origin) && len(c.Expose) > 0 {
			w.Header().Set("Access-Control-Expose-Headers", strings.Join(c.Expose, ","))
		}
		next.ServeHTTP(w, r)
	})
}

func (c CORS) allow(w http.ResponseWriter, origin string) bool {
	switch {
	case origin == "":
		return false
	case slices.Contains(c.Origins, origin):
		w.Header().Set("Access-Control-Allow-Origin", origin)
		if c.Credentials {
			w.Header().Set("Access-Control-Allow-Credentials", "true")
		}
	case slices.Contains(c.Origins, "*"):
		w.Header().Set("Access-Control-Allow-Origin", "*")
	default:
		return false
	}
	return true
}

func (c CORS) preflight(w http.ResponseWriter, r *http.Request, origin string) {
	method := r.Header.Get("Access-Control-Request-Method")
	if !slices.Contains(c.Methods, method) {
		return
	}
	wanted := list(r.Header.Values("Access-Control-Request-Headers"))
	for _, name := range wanted {
		same := func(allowed string) bool { return strings.EqualFold(allowed, name) }
		if !slices.ContainsFunc(c.Headers, same) && !slices.ContainsFunc(simpleHeaders, same) {
			return
		}
	}
	if !c.allow(w, origin) {
		return
	}
	if c.MaxAge > 0 {
		w.Header().Set("Access-Control-Max-Age", strconv.Itoa(int(c.MaxAge.Seconds())))
	}
	w.Header().Set("Access-Control-Allow-Methods", method)
	if len(wanted) > 0 {
		w.Header().Set("Access-Control-Allow-Headers", strings.Join(wanted, ","))
	}
}
