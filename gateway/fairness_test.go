package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/gateway"
	"github.com/trove-dbaas/trove/gateway/grant"
)

// TestHostileGuestDelaysNobody lets one guest do all it can with its own grant (uploads as fast as it can, uploads that stand still, requests without end) while
// another stores objects, one after another: those take about as long as they do alone.
func TestHostileGuestDelaysNobody(t *testing.T) {
	w := newWorld(t, gateway.Limits{BytesPerSecond: 4 << 20, Requests: 20, Transfers: 2, Connections: 64})
	g := w.grant(w.good, http.MethodPut, func(s *grant.Spec) { s.MaxBytes = 1 << 30 })
	body := bytes.Repeat([]byte("a line of a log\n"), 8<<10) // 128 KiB
	series := func(name string) time.Duration {
		began := time.Now()
		for i := range 10 {
			if _, err := w.client(w.good).PutBytes(t.Context(), g, fmt.Sprintf("%s%s%d", g.Prefix, name, i), body); err != nil {
				t.Fatal(err)
			}
		}
		return time.Since(began)
	}
	alone := series("alone")

	ctx, cancel := context.WithCancel(t.Context())
	var hostile sync.WaitGroup
	mine := w.grant(w.evil, http.MethodPut, func(s *grant.Spec) { s.MaxBytes = 1 << 30 })
	for i := range 2 {
		conn := w.dial() // held open, and silent
		r := raw{method: "PUT", path: fmt.Sprintf("/v1/objects/%sslow%d", mine.Prefix, i), token: mine.Token, signer: w.evil, length: "1000000"}
		if _, err := conn.Write([]byte(w.head(conn, r))); err != nil {
			t.Fatal(err)
		}
	}
	big := bytes.Repeat([]byte("x"), 8<<20)
	for i := range 4 {
		hostile.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				_, _ = w.client(w.evil).PutBytes(ctx, mine, fmt.Sprintf("%s%d-%d", mine.Prefix, i, n), big)
			}
		})
	}
	eventually(t, "the flood", func() bool { return w.refused("busy") > 5 })
	limit := 5*alone + 2*time.Second
	beside := series("beside")
	for n := 1; n < 5 && beside > limit; n++ { // a busy machine delays everybody now and then
		beside = series(fmt.Sprintf("again%d-", n))
	}
	cancel()
	hostile.Wait()
	t.Logf("10 objects of 128 KiB: alone %s, beside a hostile guest %s", alone, beside)
	if beside > limit {
		t.Errorf("beside a hostile guest it took %s, alone %s", beside, alone)
	}
}
