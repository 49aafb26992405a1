package gateway_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	pathpkg "path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/gateway"
	"github.com/trove-dbaas/trove/gateway/grant"
	"github.com/trove-dbaas/trove/guestapi"
)

// attack is a request of a guest that has a grant of its own, and what it must get.
type attack struct {
	name   string
	change func(w *world, r *raw)
	status []int
	reason string
}

func path(p string) func(*world, *raw) {
	return func(_ *world, r *raw) { r.path = "/v1/objects/" + p }
}

// attacks begin with a request that would be in order: PUT of <evil>/logs/a/1 with the guest's own grant.
var attacks = []attack{
	// The path.
	{"up", path("6a1c0000-0000-4000-8000-00000000000e/logs/a/../../../x"), []int{400}, "path"},
	{"up at the end", path("6a1c0000-0000-4000-8000-00000000000e/logs/a/.."), []int{400}, "path"},
	{"dot", path("6a1c0000-0000-4000-8000-00000000000e/logs/a/./x"), []int{400}, "path"},
	{"encoded up", path("6a1c0000-0000-4000-8000-00000000000e/logs/a/%2e%2e/x"), []int{400}, "path"},
	{"half encoded up", path("6a1c0000-0000-4000-8000-00000000000e/logs/a/.%2e/x"), []int{400}, "path"},
	{"encoded slashes", path("6a1c0000-0000-4000-8000-00000000000e/logs/a%2f..%2f..%2fx"), []int{400}, "path"},
	{"encoded twice", path("6a1c0000-0000-4000-8000-00000000000e/logs/a/%252e%252e%252fx"), []int{400}, "path"},
	{"overlong UTF-8", path("6a1c0000-0000-4000-8000-00000000000e/logs/a/%c0%ae%c0%ae/x"), []int{400}, "path"},
	{"raw bytes", path("6a1c0000-0000-4000-8000-00000000000e/logs/a/\xc0\xae\xc0\xae/x"), []int{400}, "path"},
	{"encoded backslash", path("6a1c0000-0000-4000-8000-00000000000e/logs/a/..%5c..%5cx"), []int{400}, "path"},
	{"backslash", path(`6a1c0000-0000-4000-8000-00000000000e/logs/a/..\..\x`), []int{400}, "path"},
	{"encoded NUL", path("6a1c0000-0000-4000-8000-00000000000e/logs/a/x%00.log"), []int{400}, "path"},
	{"absolute", path("/etc/passwd"), []int{400}, "path"},
	{"absolute in the middle", path("6a1c0000-0000-4000-8000-00000000000e/logs/a//etc/passwd"), []int{400}, "path"},
	{"empty segment at the end", path("6a1c0000-0000-4000-8000-00000000000e/logs/a/"), []int{400}, "path"},
	{"hidden", path("6a1c0000-0000-4000-8000-00000000000e/logs/a/.x"), []int{400}, "path"},
	{"query", path("6a1c0000-0000-4000-8000-00000000000e/logs/a/x?prefix=/"), []int{400}, "path"},
	{"too long", path("6a1c0000-0000-4000-8000-00000000000e/logs/a/" + strings.Repeat("x/", 300) + "x"), []int{400}, "path"},
	{"whole URL", func(w *world, r *raw) { r.path = w.gateway.URLs()[0] + r.path }, []int{400}, "path"},
	{"other root", func(_ *world, r *raw) { r.path = strings.Replace(r.path, "/v1/objects/", "/v1/objects/../objects/", 1) }, []int{400}, "path"},
	{"other place", func(_ *world, r *raw) { r.path = "/metrics" }, []int{400}, "path"},
	{"asterisk", func(_ *world, r *raw) { r.method, r.path = "PUT", "*" }, []int{400}, ""},
	// The prefix.
	{"looks alike", path("6a1c0000-0000-4000-8000-00000000000e/logs/ab"), []int{403}, "prefix"},
	{"looks alike below", path("6a1c0000-0000-4000-8000-00000000000e/logs/ab/x"), []int{403}, "prefix"},
	{"prefix as a name", path("6a1c0000-0000-4000-8000-00000000000e/logs/a"), []int{403}, "prefix"},
	{"another log of mine", path("6a1c0000-0000-4000-8000-00000000000e/logs/b/x"), []int{403}, "prefix"},
	{"another instance", path("6a1c0000-0000-4000-8000-000000000001/logs/a/x"), []int{403}, "prefix"},
	{"capitals", path("6A1C0000-0000-4000-8000-00000000000E/logs/a/x"), []int{403}, "prefix"},
	{"another project", path("project-good.d/database_logs.d/x"), []int{403}, "prefix"},
	{"agents", path("agents/1.2.3/trove-guestagent"), []int{403}, "prefix"},
	// The method.
	{"read with a grant to write", func(_ *world, r *raw) { r.method, r.body = "GET", "" }, []int{403}, "operation"},
	{"write with a grant to read", func(w *world, r *raw) { r.token = w.grant(w.evil, "GET", nil).Token }, []int{403}, "operation"},
	{"delete", func(_ *world, r *raw) { r.method = "DELETE" }, []int{405}, "method"},
	{"list", func(_ *world, r *raw) { r.method = "PROPFIND" }, []int{405}, "method"},
	{"overridden method", func(_ *world, r *raw) { r.method, r.headers = "POST", []string{"X-HTTP-Method-Override: PUT"} }, []int{405}, "method"},
	// The grant.
	{"no grant", func(_ *world, r *raw) { r.token = "" }, []int{401}, "token"},
	{"made up", func(_ *world, r *raw) { r.token = "tg1.AAAAAAAAAA.e30.AAAA" }, []int{401}, "token"},
	{"changed", func(_ *world, r *raw) { r.token = changed(r.token) }, []int{401}, "token"},
	{"without its signature", func(_ *world, r *raw) { r.token = r.token[:strings.LastIndex(r.token, ".")+1] }, []int{401}, "token"},
	{"huge", func(_ *world, r *raw) { r.token = strings.Repeat("x", 6000) }, []int{401}, "token"},
	{"of another deployment", func(w *world, r *raw) { r.token = newWorld(w.t, gateway.Limits{}).grant(w.evil, "PUT", nil).Token }, []int{401}, "token"},
	{"expired", func(w *world, _ *raw) { w.clock.Add(2 * time.Hour) }, []int{403}, "expired"},
	{"of an operation that has ended", func(w *world, r *raw) {
		r.token = w.grant(w.evil, "PUT", func(s *grant.Spec) { s.Operation = "op-done" }).Token
	}, []int{403}, "closed"},
	{"of an operation that never was", func(w *world, r *raw) {
		r.token = w.grant(w.evil, "PUT", func(s *grant.Spec) { s.Operation = "op-none" }).Token
	}, []int{403}, "closed"},
	// The guest.
	{"leaked grant of another", func(w *world, r *raw) {
		r.token, r.path = w.grant(w.good, "PUT", nil).Token, "/v1/objects/"+w.good.instance+"/logs/a/x"
	}, []int{403}, "guest"},
	{"leaked grant, not signed", func(w *world, r *raw) {
		r.token, r.path, r.signer = w.grant(w.good, "PUT", nil).Token, "/v1/objects/"+w.good.instance+"/logs/a/x", nil
	}, []int{403}, "guest"},
	{"signature that is none", func(_ *world, r *raw) { r.signer, r.signature = nil, "!!!" }, []int{403}, "guest"},
	{"signature for another name", func(_ *world, r *raw) { r.signName = "x" }, []int{403}, "guest"},
	{"signature for another method", func(_ *world, r *raw) { r.signMethod = "GET" }, []int{403}, "guest"},
	{"signature from another connection", func(w *world, r *raw) {
		// The good guest's own request, overheard whole, on the attacker's connection.
		theirs := w.dial()
		r.token, r.path, r.signer = w.grant(w.good, "PUT", nil).Token, "/v1/objects/"+w.good.instance+"/logs/a/x", w.good
		r.exported = exporter(w.t, theirs)
	}, []int{403}, "guest"},
	{"revoked", func(w *world, _ *raw) { w.setKey(w.evil.instance, w.good.public()) }, []int{403}, "guest"},
	{"deleted", func(w *world, _ *raw) { w.setKey(w.evil.instance, "") }, []int{403}, "guest"},
	// The body.
	{"too large", func(_ *world, r *raw) { r.body = strings.Repeat("x", 1<<20+1) }, []int{413}, "too_large"},
	{"very large, announced", func(_ *world, r *raw) { r.length = "9223372036854775807" }, []int{413}, "too_large"},
	{"too large, in chunks", func(_ *world, r *raw) {
		r.length, r.headers, r.body = "none", []string{"Transfer-Encoding: chunked"}, chunked(1<<20+1)
	}, []int{413}, "too_large"},
	{"longer than it says", func(_ *world, r *raw) { r.length = "3" }, []int{400}, "mismatch"},
	{"hash that is wrong", func(_ *world, r *raw) {
		r.noHash, r.headers = true, []string{guestapi.HeaderSHA256 + ": " + strings.Repeat("0", 64)}
	}, []int{400}, "mismatch"},
	{"no hash", func(_ *world, r *raw) { r.noHash = true }, []int{400}, "mismatch"},
	{"no hash, in chunks", func(_ *world, r *raw) {
		r.noHash, r.length, r.headers, r.body = true, "none", []string{"Transfer-Encoding: chunked"}, chunked(10)
	}, []int{400}, "mismatch"},
	{"negative length", func(_ *world, r *raw) { r.length = "-1" }, []int{400}, ""},
	{"two lengths", func(_ *world, r *raw) { r.headers = []string{"Content-Length: 1"} }, []int{400}, ""},
	{"length and chunks", func(_ *world, r *raw) {
		// Smuggling: with both, the chunks count, and the connection ends after it.
		r.headers, r.body = []string{"Transfer-Encoding: chunked"}, "0\r\n\r\nGET /v1/objects/x HTTP/1.1\r\n\r\n"
	}, []int{400}, ""},
	{"lines that are none", func(_ *world, r *raw) { r.headers = []string{guestapi.HeaderLines + ": -5"} }, []int{400}, "length"},
	{"in place of a sealed one", func(w *world, r *raw) {
		g := w.grant(w.evil, "PUT", nil)
		if _, err := w.client(w.evil).PutBytes(w.t.Context(), g, g.Prefix+"1", []byte("sealed")); err != nil {
			w.t.Fatal(err)
		}
	}, []int{409}, "sealed"},
	{"huge headers", func(_ *world, r *raw) { r.headers = []string{"X: " + strings.Repeat("x", 20<<10)} }, []int{431}, ""},
}

func (w *world) setKey(instance, key string) {
	w.state.mu.Lock()
	defer w.state.mu.Unlock()
	if key == "" {
		delete(w.state.keys, instance)
		return
	}
	w.state.keys[instance] = key
}

// changed is a token with another letter in its claims.
func changed(token string) string {
	i := strings.LastIndex(token, ".") - 5
	c := "A"
	if token[i:i+1] == c {
		c = "B"
	}
	return token[:i] + c + token[i+1:]
}

func chunked(n int) string {
	return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", n, strings.Repeat("x", n))
}

// TestAttacks sends every attack over TLS, with a credential of the attacker's own, and looks that nothing was stored or changed and that it was told.
func TestAttacks(t *testing.T) {
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			w := newWorld(t, gateway.Limits{})
			theirs := w.grant(w.good, http.MethodPut, nil)
			if _, err := w.client(w.good).PutBytes(t.Context(), theirs, theirs.Prefix+"1", []byte("a neighbour's")); err != nil {
				t.Fatal(err)
			}
			mine := w.grant(w.evil, http.MethodPut, nil)
			r := raw{method: "PUT", path: "/v1/objects/" + mine.Prefix + "1", token: mine.Token, signer: w.evil, body: "evil"}
			a.change(w, &r)
			before := w.inventory()
			status := w.send(r)
			if !slices.Contains(a.status, status) {
				t.Errorf("status %d, want one of %v", status, a.status)
			}
			// The gateway may still be at work on what it cut.
			eventually(t, "the end of the request", func() bool { return cmp.Equal(before, w.inventory()) })
			if a.reason == "" {
				return // refused by the HTTP library, before there was a request
			}
			if w.refused(a.reason) != 1 {
				t.Errorf("trove_gateway_refused_total{reason=%q} is %v, want 1", a.reason, w.refused(a.reason))
			}
			if !strings.Contains(w.log.String(), "reason="+a.reason) {
				t.Errorf("the log does not tell it:\n%s", w.log.String())
			}
		})
	}
}

// TestAttackerWithoutAttack makes sure that the attacks are not refused for something else.
func TestAttackerWithoutAttack(t *testing.T) {
	w := newWorld(t, gateway.Limits{})
	mine := w.grant(w.evil, http.MethodPut, func(s *grant.Spec) { s.Operation = "op-open" })
	r := raw{method: "PUT", path: "/v1/objects/" + mine.Prefix + "1", token: mine.Token, signer: w.evil, body: "evil"}
	if status := w.send(r); status != http.StatusCreated {
		t.Errorf("status %d, want 201", status)
	}
	r.path, r.length, r.headers, r.body, r.noHash = "/v1/objects/"+mine.Prefix+"2", "none", []string{"Transfer-Encoding: chunked", "Trailer: " + guestapi.HeaderSHA256}, "1\r\nx\r\n0\r\n"+guestapi.HeaderSHA256+": 2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881\r\n\r\n", true
	if status := w.send(r); status != http.StatusCreated {
		t.Errorf("status in chunks %d, want 201", status)
	}
	if got := len(w.inventory()); got != 2 {
		t.Errorf("%d objects, want 2", got)
	}
}

// TestOlderTLSIsRefused: the binding to a connection needs TLS 1.3.
func TestOlderTLSIsRefused(t *testing.T) {
	w := newWorld(t, gateway.Limits{})
	conn, err := tls.Dial("tcp", strings.TrimPrefix(w.gateway.URLs()[0], "https://"), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	if err == nil {
		_ = conn.Close()
		t.Error("TLS 1.2 was accepted")
	}
}

// TestCutBodyLeavesNothing lies about the length: less comes than was announced.
func TestCutBodyLeavesNothing(t *testing.T) {
	w := newWorld(t, gateway.Limits{})
	mine := w.grant(w.evil, http.MethodPut, nil)
	conn := w.dial()
	r := raw{method: "PUT", path: "/v1/objects/" + mine.Prefix + "1", token: mine.Token, signer: w.evil, body: "evil", length: "1000"}
	if _, err := conn.Write([]byte(w.head(conn, r) + r.body)); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	eventually(t, "the refusal", func() bool { return w.refused("aborted") == 1 })
	if got := w.inventory(); len(got) != 0 {
		t.Errorf("stored %v", got)
	}
}

// TestSlowBodyIsCut sends a byte now and then.
func TestSlowBodyIsCut(t *testing.T) {
	w := newWorld(t, gateway.Limits{Grace: 300 * time.Millisecond, MinRate: 1 << 10})
	mine := w.grant(w.evil, http.MethodPut, nil)
	conn := w.dial()
	r := raw{method: "PUT", path: "/v1/objects/" + mine.Prefix + "1", token: mine.Token, signer: w.evil, length: "1000000"}
	if _, err := conn.Write([]byte(w.head(conn, r))); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				if _, err := conn.Write([]byte("x")); err != nil {
					return
				}
			}
		}
	}()
	eventually(t, "the cut", func() bool { return w.refused("slow") == 1 })
	if got := w.inventory(); len(got) != 0 {
		t.Errorf("stored %v", got)
	}
}

// TestSlowReaderIsCut asks for much and reads nothing.
func TestSlowReaderIsCut(t *testing.T) {
	w := newWorld(t, gateway.Limits{Grace: 300 * time.Millisecond, MinRate: 1 << 20})
	big := strings.Repeat("x", 32<<20) // more than buffers on the way hold
	name := w.evil.instance + "/logs/a/big"
	if _, err := w.store.Put(t.Context(), w.evil.container(), name, strings.NewReader(big), backupstore.PutOptions{Size: -1}); err != nil {
		t.Fatal(err)
	}
	g := w.grant(w.evil, http.MethodGet, nil)
	conn := w.dial()
	if _, err := conn.Write([]byte(w.head(conn, raw{method: "GET", path: "/v1/objects/" + name, token: g.Token, signer: w.evil}))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the cut", func() bool { return w.refused("aborted") == 1 })
	n, err := io.Copy(io.Discard, conn)
	if err == nil && n >= int64(len(big)) {
		t.Error("the object came whole")
	}
}

// TestSlowHeadersAreCut is the classic slow loris.
func TestSlowHeadersAreCut(t *testing.T) {
	w := newWorld(t, gateway.Limits{})
	conn := w.dial()
	if _, err := conn.Write([]byte("PUT /v1/objects/x HTTP/1.1\r\nHost: x\r\n")); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_ = answered(t, conn, "PUT")
	if took := time.Since(began); took > patience-10*time.Second {
		t.Errorf("the connection was held for %s", took)
	}
}

// TestParallelTransfersAreLimited leaves uploads open.
func TestParallelTransfersAreLimited(t *testing.T) {
	w := newWorld(t, gateway.Limits{Transfers: 2, Grace: patience})
	mine := w.grant(w.evil, http.MethodPut, nil)
	request := func(i int) raw {
		return raw{method: "PUT", path: fmt.Sprintf("/v1/objects/%s%d", mine.Prefix, i), token: mine.Token, signer: w.evil, length: "1000"}
	}
	for i := range 2 {
		conn := w.dial()
		// The answer to Expect says that the gateway waits for the body.
		r := request(i)
		r.headers = []string{"Expect: 100-continue"}
		if _, err := conn.Write([]byte(w.head(conn, r))); err != nil {
			t.Fatal(err)
		}
		if status := answered(t, conn, "PUT"); status != http.StatusContinue {
			t.Fatalf("status %d, want 100", status)
		}
	}
	if status := w.send(request(2)); status != http.StatusTooManyRequests {
		t.Errorf("status %d, want 429", status)
	}
	g := w.grant(w.good, http.MethodPut, nil)
	if _, err := w.client(w.good).PutBytes(t.Context(), g, g.Prefix+"1", []byte("x")); err != nil {
		t.Errorf("the neighbour: %v", err)
	}
}

func TestConnectionsOfOneAddressAreLimited(t *testing.T) {
	w := newWorld(t, gateway.Limits{Connections: 4})
	for range 4 {
		w.dial()
	}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(w.gateway.URLs()[0], "https://"), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
	if err == nil {
		_ = conn.Close()
		t.Error("a fifth connection was accepted")
	}
	if w.refused("connections") != 1 {
		t.Errorf("refused connections: %v", w.refused("connections"))
	}
}

// FuzzNames looks that what is let in below a prefix is below it for every store and file system.
func FuzzNames(f *testing.F) {
	const prefix = "6a1c0000-0000-4000-8000-00000000000e/logs/a/"
	for _, name := range []string{"1", "../b", "%2e%2e/b", "x/..", "a//b", "\u00e9", "..", "a\x00", "x?y", "x#y", ".x", strings.Repeat("x", 81)} {
		f.Add(prefix + name)
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if guestapi.CheckObjectName(name) != nil || !(grant.Grant{Prefix: prefix}).Covers(name) {
			return
		}
		if err := backupstore.CheckName(name); err != nil {
			t.Errorf("%q is let in, and no store takes it: %v", name, err)
		}
		parsed, err := url.ParseRequestURI(guestapi.ObjectPath + name)
		if err != nil || parsed.Path != guestapi.ObjectPath+name || parsed.EscapedPath() != parsed.Path || parsed.RawQuery != "" {
			t.Errorf("%q reads as %+v in a URL, %v", name, parsed, err)
		}
		if pathpkg.Clean("/"+name) != "/"+name {
			t.Errorf("%q is cleaned to %q", name, pathpkg.Clean("/"+name))
		}
	})
}
