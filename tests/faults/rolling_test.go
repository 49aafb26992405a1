package faults_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/tests/dbserver"
)

// quotas are no limit for the load.
var quotas = map[string]int{"instances": 10_000, "volumes": 100_000}

// onServers runs a test on both kinds of servers.
func onServers(t *testing.T, test func(t *testing.T, s *dbserver.Server, cfg sqlstore.Config)) {
	for _, kind := range dbserver.Kinds {
		t.Run(kind, func(t *testing.T) {
			s := dbserver.Start(t, kind, dbserver.Options{})
			at := s.Database(t)
			at.Patience = time.Second
			test(t, s, sqlstore.Config{Server: at, Quotas: quotas})
		})
	}
}

// TestRollingRestartUnderLoad stops and starts each process of the service, one after the other, twice, while clients use it: no request fails, nothing is lost and
// nothing is done twice. One kind of client is ours, behind a balancer; the other one tries again where it is refused, or told to by a 503, and repeats nothing else.
func TestRollingRestartUnderLoad(t *testing.T) {
	onServers(t, func(t *testing.T, _ *dbserver.Server, cfg sqlstore.Config) {
		w := newWorld(t, cfg)
		l := w.startLoad(t, nil)
		p := newPlain(t, w.apis)
		l.wg.Go(func() { p.run(l.ctx, t) })
		pause(t, 300*time.Millisecond)
		for range 2 {
			for _, part := range w.parts {
				began := time.Now()
				w.end(part)
				if took := time.Since(began); took > 6*time.Second {
					t.Errorf("%s took %s to stop", part.name, took)
				}
				w.begin(part)
				pause(t, 200*time.Millisecond)
			}
		}
		l.check(t)
		if l.calls["create"] < 10 || l.calls["long poll"] < 10 || l.calls["patch group"] < 5 || l.calls["create user"] < 5 || p.made.Load() < 10 {
			t.Errorf("hardly anything was called: %v, %d", l.calls, p.made.Load())
		}
		p.check(t, w)
	})
}

func pause(t *testing.T, d time.Duration) {
	t.Helper()
	if err := clock.Sleep(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

// plain is a client that knows little: it makes configuration groups without a key.
type plain struct {
	http    *http.Client
	apis    []string
	token   string
	project string
	made    atomic.Int64
}

func newPlain(t *testing.T, apis []string) *plain {
	t.Helper()
	p := &plain{http: &http.Client{Transport: &http.Transport{}, Timeout: time.Minute}, apis: apis}
	t.Cleanup(p.http.CloseIdleConnections)
	body := fmt.Sprintf(`{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":%q,"domain":{"id":"default"},"password":%q}}},
"scope":{"project":{"name":%q,"domain":{"id":"default"}}}}}`, user, login.Reveal(), project)
	resp, err := p.http.Post("http://"+apis[0]+"/identity/v3/auth/tokens", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Token struct {
			Project struct {
				ID string `json:"id"`
			} `json:"project"`
		} `json:"token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("log in: %s, %v", resp.Status, err)
	}
	p.token, p.project = resp.Header.Get("X-Subject-Token"), answer.Token.Project.ID
	return p
}

// run makes groups and reads until ctx ends; a call that is under way is waited for.
func (p *plain) run(ctx context.Context, t *testing.T) {
	for n := 0; ctx.Err() == nil; n++ {
		body := fmt.Sprintf(`{"configuration":{"name":"plain-%d","values":{"max_things":%d}}}`, n, n%500+1)
		if err := p.ask(http.MethodPost, "/configurations", body); err != nil {
			t.Errorf("create a group without a key: %v", err)
			return
		}
		p.made.Add(1)
		if err := p.ask(http.MethodGet, "/instances/detail", ""); err != nil {
			t.Errorf("read: %v", err)
			return
		}
	}
}

// ask tries each API until one takes the request.
func (p *plain) ask(method, path, body string) error {
	var last error
	for n := range 100 {
		answer, wait, err := p.once(p.apis[n%len(p.apis)], method, path, body)
		e, refused := errors.AsType[*net.OpError](err)
		switch {
		case err == nil && wait == "" && strings.HasPrefix(answer, "2"):
			return nil
		case err == nil && wait == "":
			return errors.New(answer)
		case err != nil && (!refused || e.Op != "dial"):
			return err
		}
		last = err
		_ = clock.Sleep(context.Background(), 20*time.Millisecond)
	}
	return fmt.Errorf("nobody takes it: %w", last)
}

func (p *plain) once(api, method, path, body string) (answer, retryAfter string, err error) {
	req, err := http.NewRequest(method, "http://"+api+"/v1.0/"+p.project+path, strings.NewReader(body)) //nolint:noctx // the client has a limit
	if err != nil {
		return "", "", err
	}
	req.Header.Set("X-Auth-Token", p.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := p.http.Do(req)
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if resp.StatusCode == http.StatusServiceUnavailable {
		retryAfter = resp.Header.Get("Retry-After")
	}
	return resp.Status + " " + string(text[:min(len(text), 300)]), retryAfter, err
}

// check sees that each group was made once.
func (p *plain) check(t *testing.T, w *world) {
	t.Helper()
	n := countGroups(t, w, "plain-")
	if int64(n) != p.made.Load() {
		t.Errorf("%d groups were made without a key, %d are there", p.made.Load(), n)
	}
}
