package edge_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trove-dbaas/trove/internal/edge"
)

var trusted = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:1::/48")}

// seen sends a request from an address through Forwarded and returns how it arrives.
func seen(t testing.TB, peer string, header map[string]string) (base, client string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://inner:8779/v1.0/", http.NoBody)
	r.RemoteAddr = peer
	for k, v := range header {
		r.Header.Set(k, v)
	}
	edge.Forwarded(trusted, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		f := edge.Of(r)
		base, client = f.Base(), f.Client.String()
		if host, _, _ := net.SplitHostPort(r.RemoteAddr); host != client || r.Host != f.Host {
			t.Errorf("RemoteAddr %s, Host %s of %+v", r.RemoteAddr, r.Host, f)
		}
		for k := range r.Header {
			if strings.Contains(k, "Forwarded") {
				t.Errorf("%s is still there", k)
			}
		}
	})).ServeHTTP(httptest.NewRecorder(), r)
	return base, client
}

func TestProxiesAreBelievedAsFarAsTheyAreTrusted(t *testing.T) {
	for name, c := range map[string]struct {
		peer         string
		header       map[string]string
		base, client string
	}{
		"no proxy":         {"192.0.2.1:9", nil, "http://inner:8779", "192.0.2.1"},
		"a stranger's lie": {"192.0.2.1:9", map[string]string{"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Host": "evil", "Forwarded": "for=1.2.3.4"}, "http://inner:8779", "192.0.2.1"},
		"one proxy": {
			"10.0.0.1:9",
			map[string]string{"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "db.example"},
			"https://db.example", "198.51.100.7",
		},
		"with a prefix": {"10.0.0.1:9", map[string]string{"X-Forwarded-For": "198.51.100.7", "X-Forwarded-Prefix": "/database/"}, "http://inner:8779/database", "198.51.100.7"},
		"the client lied to the proxy": {
			"10.0.0.1:9",
			map[string]string{"X-Forwarded-For": "1.2.3.4, 198.51.100.7", "X-Forwarded-Proto": "http, https"},
			"https://inner:8779", "198.51.100.7",
		},
		"two proxies": {
			"10.0.0.1:9",
			map[string]string{"X-Forwarded-For": "198.51.100.7, 10.0.0.2", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "db.example"},
			"https://db.example", "198.51.100.7",
		},
		"two proxies that append": {
			"10.0.0.1:9",
			map[string]string{"X-Forwarded-For": "198.51.100.7, 10.0.0.2", "X-Forwarded-Proto": "https, http"},
			"https://inner:8779", "198.51.100.7",
		},
		"no address": {"10.0.0.1:9", map[string]string{"X-Forwarded-Proto": "https"}, "https://inner:8779", "10.0.0.1"},
		"RFC 7239": {
			"10.0.0.1:9",
			map[string]string{"Forwarded": `for="[2001:db8::7]:4711";proto=https;host="db.example:8443"`, "X-Forwarded-For": "1.1.1.1"},
			"https://db.example:8443", "2001:db8::7",
		},
		"RFC 7239, two": {
			"[2001:db8:1::1]:9",
			map[string]string{"Forwarded": `for=1.2.3.4;host="a,b\"c", For=198.51.100.7; proto=https;host=db.example, for=10.0.0.2;proto=http`},
			"https://db.example", "198.51.100.7",
		},
		"hidden":                {"10.0.0.1:9", map[string]string{"Forwarded": "for=1.2.3.4, for=_hidden;proto=https"}, "https://inner:8779", "10.0.0.1"},
		"values that are none":  {"10.0.0.1:9", map[string]string{"X-Forwarded-Proto": "javascript", "X-Forwarded-Host": "a b/c", "X-Forwarded-Prefix": "/a/../b"}, "http://inner:8779", "10.0.0.1"},
		"mapped IPv4":           {"[::ffff:10.0.0.1]:9", map[string]string{"X-Forwarded-For": "198.51.100.7:55"}, "http://inner:8779", "198.51.100.7"},
		"only the near is ours": {"192.0.2.1:9", map[string]string{"X-Forwarded-For": "10.0.0.2"}, "http://inner:8779", "192.0.2.1"},
	} {
		t.Run(name, func(t *testing.T) {
			base, client := seen(t, c.peer, c.header)
			if base != c.base || client != c.client {
				t.Errorf("%s from %s, want %s from %s", base, client, c.base, c.client)
			}
		})
	}
}

func FuzzForwarded(f *testing.F) {
	f.Add(`for="[2001:db8::7]:4711";proto=https;host="db.example"`, "1.2.3.4, 10.0.0.1", "a,b", "/p")
	f.Add(`for="\`, ",,", `"`, "//")
	f.Fuzz(func(t *testing.T, forwarded, from, host, prefix string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://inner/", http.NoBody)
		r.RemoteAddr = "10.0.0.1:1"
		r.Header = http.Header{"Forwarded": {forwarded}, "X-Forwarded-For": {from}, "X-Forwarded-Host": {host}, "X-Forwarded-Prefix": {prefix}}
		edge.Forwarded(trusted, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			o := edge.Of(r)
			if !o.Client.IsValid() || strings.ContainsAny(o.Base(), " \"'<>\r\n\\") || strings.Count(o.Scheme, "http") != 1 {
				t.Errorf("%+v", o)
			}
		})).ServeHTTP(httptest.NewRecorder(), r)
	})
}

func TestCORS(t *testing.T) {
	inner := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	rules := edge.CORS{
		Origins: []string{"https://horizon.example"}, Credentials: true, Expose: []string{"X-A", "X-B"}, Methods: []string{"GET", "POST"},
		Headers: []string{"X-Auth-Token"}, MaxAge: time.Hour,
	}
	all := edge.CORS{Origins: []string{"*"}, Credentials: true, Methods: []string{"GET"}}
	type h = map[string]string
	preflight := func(origin, method, headers string) h {
		return h{"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
	}
	for name, c := range map[string]struct {
		cors   edge.CORS
		method string
		header h
		status int
		want   h // without Vary
	}{
		"preflight": {rules, "OPTIONS", preflight("https://horizon.example", "POST", "x-auth-token, content-type"), 200, h{
			"Access-Control-Allow-Origin": "https://horizon.example", "Access-Control-Allow-Credentials": "true", "Access-Control-Max-Age": "3600",
			"Access-Control-Allow-Methods": "POST", "Access-Control-Allow-Headers": "x-auth-token,content-type",
		}},
		"another origin":    {rules, "OPTIONS", preflight("https://evil.example", "POST", ""), 200, h{}},
		"another method":    {rules, "OPTIONS", preflight("https://horizon.example", "PUT", ""), 200, h{}},
		"another header":    {rules, "OPTIONS", preflight("https://horizon.example", "GET", "X-Auth-Token, X-Other"), 200, h{}},
		"no method":         {rules, "OPTIONS", h{"Origin": "https://horizon.example"}, 200, h{}},
		"no origin":         {rules, "OPTIONS", h{"Access-Control-Request-Method": "GET"}, 418, h{}},
		"request":           {rules, "GET", h{"Origin": "https://horizon.example"}, 418, h{"Access-Control-Allow-Origin": "https://horizon.example", "Access-Control-Allow-Credentials": "true", "Access-Control-Expose-Headers": "X-A,X-B"}},
		"foreign request":   {rules, "GET", h{"Origin": "null"}, 418, h{}},
		"any origin":        {all, "GET", h{"Origin": "https://x.example"}, 418, h{"Access-Control-Allow-Origin": "*"}},
		"none is allowed":   {edge.CORS{}, "OPTIONS", preflight("https://x.example", "GET", ""), 418, h{}},
		"without a browser": {rules, "GET", nil, 418, h{}},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), c.method, "/v1.0/p/instances", http.NoBody)
			for k, v := range c.header {
				r.Header.Set(k, v)
			}
			rec := httptest.NewRecorder()
			c.cors.Handler(inner).ServeHTTP(rec, r)
			got := h{}
			for k := range rec.Header() {
				if k != "Vary" {
					got[k] = rec.Header().Get(k)
				}
			}
			if d := cmp.Diff(c.want, got); d != "" || rec.Code != c.status {
				t.Errorf("%d %s", rec.Code, d)
			}
			if vary := rec.Header().Get("Vary"); (vary == "Origin") != (len(c.cors.Origins) > 0) {
				t.Errorf("Vary %q", vary)
			}
		})
	}
}

func TestDisabledByFile(t *testing.T) {
	dir := t.TempDir()
	d := edge.Disabled{Path: filepath.Join(dir, "all"), ByPort: map[int]string{8779: filepath.Join(dir, "one")}}
	ask := func(port int) bool {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/healthcheck", http.NoBody)
		return d.Now(r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{Port: port})))
	}
	touch := func(name string) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if ask(8779) || ask(1) || (edge.Disabled{}).Now(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)) {
		t.Error("disabled without a file")
	}
	touch("one")
	if !ask(8779) || ask(1) {
		t.Error("the file of one port is for that port")
	}
	touch("all")
	if !ask(1) {
		t.Error("not disabled")
	}
}
