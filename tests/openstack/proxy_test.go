package openstack_test

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// call is a request of one of our processes to a service of the cloud.
type call struct {
	Service string // Keystone, Nova
	Method  string
	Path    string
	Ours    bool // made with a token of the service's own user
	Status  int  // 0 before it is answered
}

// changes reports whether the call does more than look.
func (c call) changes() bool {
	return c.Method != http.MethodGet && c.Method != http.MethodHead && c.Service != "Keystone"
}

func (c call) String() string {
	return fmt.Sprintf("%s %s %s %d", c.Service, c.Method, c.Path, c.Status)
}

// proxy stands between one of our processes and the cloud, whose services it sees, and can take away from the process. The process finds it as any program finds
// the proxy of its network; nothing of ours knows of it.
type proxy struct {
	url   string
	ports map[string]string // names of services

	mu     sync.Mutex
	calls  []call
	ours   map[[sha256.Size]byte]bool // tokens that the process got by its own login
	ended  map[[sha256.Size]byte]bool // of those, the ones that are not taken any more
	away   map[string]bool            // services that cannot be reached
	before func(call)                 // runs before a call goes on, and may take its time
	after  func(call)                 // runs before the answer goes back
}

// newProxy starts one. It ends with the test.
func newProxy(t *testing.T, ports map[string]string) *proxy {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{
		url: "http://" + l.Addr().String(), ports: ports, ours: map[[sha256.Size]byte]bool{}, ended: map[[sha256.Size]byte]bool{}, away: map[string]bool{},
	}
	forward := &httputil.ReverseProxy{
		Rewrite:        func(*httputil.ProxyRequest) {}, // the address is whole already
		ModifyResponse: p.answered,
		ErrorHandler:   func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		Transport:      &http.Transport{Proxy: nil, MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Second},
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := p.of(r)
		p.mu.Lock()
		hook := p.before
		p.mu.Unlock()
		if hook != nil {
			hook(c)
		}
		p.mu.Lock()
		away, ended := p.away[c.Service], p.ended[hash(r)]
		p.mu.Unlock()
		switch {
		case away:
			panic(http.ErrAbortHandler) // the connection ends without an answer, as that of a service that died
		case ended && c.Service != "Keystone":
			w.WriteHeader(http.StatusUnauthorized)
		default:
			forward.ServeHTTP(w, r)
		}
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return p
}

func hash(r *http.Request) [sha256.Size]byte {
	return sha256.Sum256([]byte(r.Header.Get("X-Auth-Token")))
}

func (p *proxy) of(r *http.Request) call {
	p.mu.Lock()
	defer p.mu.Unlock()
	service := p.ports[r.URL.Port()]
	if service == "" {
		service = r.URL.Host
	}
	return call{Service: service, Method: r.Method, Path: r.URL.Path, Ours: p.ours[hash(r)]}
}

// answered remembers a call, and whose token a login gave.
func (p *proxy) answered(resp *http.Response) error {
	c := p.of(resp.Request)
	c.Status = resp.StatusCode
	p.mu.Lock()
	if token := resp.Header.Get("X-Subject-Token"); token != "" && c.Method == http.MethodPost {
		p.ours[sha256.Sum256([]byte(token))] = true
	}
	p.calls = append(p.calls, c)
	hook := p.after
	p.mu.Unlock()
	if hook != nil {
		hook(c)
	}
	return nil
}

// take returns the calls since the last time.
func (p *proxy) take() []call {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.calls
	p.calls = nil
	return all
}

// changed returns the changes among the calls since the last time that they were taken.
func (p *proxy) changed() []call {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.calls), func(c call) bool { return !c.changes() })
}

// on sets what runs around calls; nil for nothing.
func (p *proxy) on(before, after func(call)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.before, p.after = before, after
}

func (p *proxy) takeAway(service string, away bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away[service] = away
}

// endTokens has the tokens that the process has refused from now on, as those that are too old.
func (p *proxy) endTokens() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for token := range p.ours {
		p.ended[token] = true
	}
}

func told(calls []call) string {
	lines := make([]string, 0, len(calls))
	for _, c := range calls {
		lines = append(lines, "  "+c.String())
	}
	return strings.Join(lines, "\n")
}
