package api

import (
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// rates counts the calls of each project by verb.
type rates struct {
	perMinute map[string]int // by verb; empty: no limits

	mu      sync.Mutex
	buckets map[bucketKey]*rate.Limiter
}

type bucketKey struct{ project, verb string }

// maxBuckets is how many buckets are kept, about 100 bytes each. Past it the full ones, which say nothing, are dropped, and if there are none
// any other: its project may then make its calls of the minute once more.
const maxBuckets = 10_000

// rateVerbs is the order in which /limits lists the verbs.
var rateVerbs = []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodGet}

func newRates(cfg Config) *rates {
	r := &rates{perMinute: map[string]int{}, buckets: map[bucketKey]*rate.Limiter{}}
	if cfg.NoRateLimit {
		return r
	}
	for _, verb := range rateVerbs {
		r.perMinute[verb] = DefaultRate
		if n, ok := cfg.Rates[verb]; ok {
			r.perMinute[verb] = n
		}
	}
	return r
}

// take counts a call. If it is one too many it says when the next may come and what the limit is. PATCH counts as PUT.
func (r *rates) take(project, method string, now time.Time) (retry time.Duration, limit int, ok bool) {
	switch method {
	case http.MethodPatch:
		method = http.MethodPut
	case http.MethodHead:
		method = http.MethodGet
	}
	limit = r.perMinute[method]
	if limit <= 0 {
		return 0, 0, true
	}
	b := r.bucket(project, method, limit, now)
	if b.AllowN(now, 1) {
		return 0, limit, true
	}
	return untilToken(b, now), limit, false
}

// left returns how many calls the project has left and when the next may come.
func (r *rates) left(project, verb string, now time.Time) (remaining int, next time.Time) {
	r.mu.Lock()
	b := r.buckets[bucketKey{project, verb}]
	r.mu.Unlock()
	if b == nil {
		return r.perMinute[verb], now
	}
	tokens := b.TokensAt(now)
	if tokens >= 1 {
		return int(tokens), now
	}
	return 0, now.Add(untilToken(b, now))
}

func untilToken(b *rate.Limiter, now time.Time) time.Duration {
	missing := max(0, 1-b.TokensAt(now))
	return time.Duration(missing / float64(b.Limit()) * float64(time.Second))
}

func (r *rates) bucket(project, verb string, limit int, now time.Time) *rate.Limiter {
	key := bucketKey{project, verb}
	r.mu.Lock()
	defer r.mu.Unlock()
	if b := r.buckets[key]; b != nil {
		return b
	}
	if len(r.buckets) >= maxBuckets {
		r.drop(now)
	}
	b := rate.NewLimiter(rate.Limit(float64(limit)/time.Minute.Seconds()), limit)
	r.buckets[key] = b
	return b
}

// drop makes room for a tenth, so that the next ones do not have to look again at once.
func (r *rates) drop(now time.Time) {
	for k, b := range r.buckets {
		if b.TokensAt(now) >= float64(b.Burst()) {
			delete(r.buckets, k)
		}
	}
	for k := range r.buckets {
		if len(r.buckets) <= maxBuckets-maxBuckets/10 {
			return
		}
		delete(r.buckets, k)
	}
}
