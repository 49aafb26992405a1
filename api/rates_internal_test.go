package api

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// However many projects call, the memory is bounded, and those that are over their limit mostly stay so.
func TestRatesAreBounded(t *testing.T) {
	r := newRates(Config{Rates: map[string]int{http.MethodGet: 1}})
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for n := range 3 * maxBuckets {
		if _, _, ok := r.take(fmt.Sprint("p", n), http.MethodGet, now); !ok {
			t.Fatalf("the first call of project %d was refused", n)
		}
		if _, _, ok := r.take(fmt.Sprint("p", n), http.MethodGet, now); ok {
			t.Fatalf("the second call of project %d was not refused", n)
		}
	}
	if len(r.buckets) > maxBuckets {
		t.Errorf("%d buckets", len(r.buckets))
	}
	now = now.Add(time.Minute)
	for n := range maxBuckets { // all of the former ones are full again
		r.take(fmt.Sprint("q", n), http.MethodGet, now)
	}
	if _, there := r.buckets[bucketKey{"q0", http.MethodGet}]; !there || len(r.buckets) > maxBuckets {
		t.Errorf("%d buckets, that of the oldest busy one is there: %t", len(r.buckets), there)
	}
}
