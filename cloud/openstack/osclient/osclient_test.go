package osclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/prometheus/client_golang/prometheus"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
)

const password = "the-password-of-the-service"

// world is a Keystone and one service, which answers as a test says.
type world struct {
	*httptest.Server
	mu       sync.Mutex
	logins   int
	refuse   bool                                              // logins
	answer   func(w http.ResponseWriter, r *http.Request) bool // nil or false: 200 with a server
	requests []string
	tokens   []string
}

func newWorld(t *testing.T) *world {
	w := &world{}
	w.Server = httptest.NewServer(w)
	t.Cleanup(w.Close)
	return w
}

func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.URL.Path == "/v3/auth/tokens" {
		w.login(rw, r)
		return
	}
	w.requests = append(w.requests, r.Method+" "+r.URL.Path)
	w.tokens = append(w.tokens, r.Header.Get("X-Auth-Token"))
	if r.Header.Get("X-Trove-Service") != "" || !strings.HasPrefix(r.UserAgent(), "trove") {
		http.Error(rw, "a header is wrong", http.StatusTeapot)
		return
	}
	if w.answer != nil && w.answer(rw, r) {
		return
	}
	rw.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(rw, `{"server": {"id": "s1", "name": "one"}}`)
}

func (w *world) login(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if w.refuse || !strings.Contains(string(body), password) {
		http.Error(rw, `{"error": {"code": 401, "message": "The request you have made requires authentication."}}`, http.StatusUnauthorized)
		return
	}
	w.logins++
	rw.Header().Set("X-Subject-Token", fmt.Sprintf("token-%d", w.logins))
	rw.WriteHeader(http.StatusCreated)
	_, _ = fmt.Fprintf(rw, `{"token": {"user": {"id": "u1"}, "project": {"id": "p1"}, "catalog": [
		{"type": "compute", "endpoints": [{"interface": "internal", "region": "RegionOne", "url": "%[1]s/compute/v2.1"}, {"interface": "public", "region": "RegionOne", "url": "http://nowhere.invalid"}]},
		{"type": "volumev3", "endpoints": [{"interface": "internal", "region": "RegionOne", "url": "%[1]s/volume/v3/p1"}]},
		{"type": "network", "endpoints": [{"interface": "internal", "region": "RegionOne", "url": "%[1]s/network"}]},
		{"type": "image", "endpoints": [{"interface": "internal", "region": "Elsewhere", "url": "%[1]s/image"}]}]}}`, w.URL)
}

func (w *world) config() osclient.Config {
	return osclient.Config{
		AuthURL: w.URL + "/v3", Username: "trove", Project: "service", Region: "RegionOne", Log: slog.New(slog.DiscardHandler), Timeout: time.Minute,
		Password: func() (trove.Secret, error) { return password, nil },
	}
}

func (w *world) session(t *testing.T) *osclient.Session {
	t.Helper()
	s, err := osclient.New(t.Context(), w.config())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func get(ctx context.Context, t *testing.T, s *osclient.Session) error {
	t.Helper()
	c, err := s.Compute()
	if err != nil {
		t.Fatal(err)
	}
	_, err = servers.Get(ctx, c, "s1").Extract()
	return err
}

func TestFailuresHaveAKindAndOpenStacksRequestID(t *testing.T) {
	w := newWorld(t)
	s := w.session(t)
	for _, c := range []struct {
		status int
		body   string
		kind   trove.Kind
		says   string
	}{
		{404, `{"itemNotFound": {"code": 404, "message": "Instance s1 could not be found."}}`, trove.KindNotFound, "Nova: Instance s1 could not be found (request req-7)."},
		{400, `{"badRequest": {"code": 400, "message": "Invalid\n input."}}`, trove.KindBadRequest, "Nova: Invalid input (request req-7)."},
		{403, `{"forbidden": {"code": 403, "message": "Quota exceeded for cores: Requested 1"}}`, trove.KindOverLimit, "Quota exceeded"},
		{403, `{"forbidden": {"code": 403, "message": "Policy doesn't allow it."}}`, trove.KindForbidden, "Policy"},
		{409, `{"NeutronError": {"type": "OverQuota", "message": "No more ports.", "detail": ""}}`, trove.KindOverLimit, "No more ports"},
		{409, `{"NeutronError": {"type": "IpAddressGenerationFailure", "message": "No more IP addresses available on network n.", "detail": ""}}`, trove.KindOverLimit, "No more IP"},
		{409, `{"conflictingRequest": {"code": 409, "message": "It is in task_state powering-off"}}`, trove.KindConflict, "powering-off"},
		{413, `{"overLimit": {"code": 413, "message": "VolumeSizeExceedsAvailableQuota"}}`, trove.KindOverLimit, "VolumeSize"},
		{404, `<html><body>secret page</body></html>`, trove.KindNotFound, "Nova refused this with the status 404 (request req-7)."},
		{500, `{"computeFault": {"code": 500, "message": "Unexpected: secret"}}`, trove.KindUnavailable, "it answered 500 (request req-7)"},
	} {
		w.answer = func(rw http.ResponseWriter, _ *http.Request) bool {
			rw.Header().Set("X-Openstack-Request-Id", "req-7")
			rw.WriteHeader(c.status)
			_, _ = io.WriteString(rw, c.body)
			return true
		}
		err := get(t.Context(), t, s)
		if trove.KindOf(err) != c.kind || !strings.Contains(trove.MessageOf(err), c.says) || strings.Contains(fmt.Sprint(err), "secret") {
			t.Errorf("%d %s: kind %v, %v", c.status, c.body, trove.KindOf(err), err)
		}
		if !gophercloud.ResponseCodeIs(err, c.status) || !osclient.Is(err, c.status) {
			t.Errorf("%d: the cause is lost: %v", c.status, err)
		}
	}
}

func TestReadsAreTriedAgainAndCreatesAreNot(t *testing.T) {
	w := newWorld(t)
	s := w.session(t)
	failing := func(status, times int) func(http.ResponseWriter, *http.Request) bool {
		return func(rw http.ResponseWriter, _ *http.Request) bool {
			if times--; times < 0 {
				return false
			}
			rw.WriteHeader(status)
			return true
		}
	}
	w.answer = failing(http.StatusBadGateway, 2)
	if err := get(t.Context(), t, s); err != nil || len(w.requests) != 3 {
		t.Errorf("a read through a gateway that failed twice: %v after %v", err, w.requests)
	}
	w.answer, w.requests = failing(http.StatusBadGateway, 1), nil
	c, err := s.Compute()
	if err != nil {
		t.Fatal(err)
	}
	_, err = servers.Create(t.Context(), c, servers.CreateOpts{Name: "x", FlavorRef: "1"}, nil).Extract()
	if trove.KindOf(err) != trove.KindUnavailable || trove.IsPermanent(err) || len(w.requests) != 1 {
		t.Errorf("a create whose answer was lost on the way was repeated: %v, %v", err, w.requests)
	}
}

func TestAServiceThatDoesNotAnswerIsUnavailableInTime(t *testing.T) {
	w := newWorld(t)
	patient, cfg := w.session(t), w.config()
	cfg.Timeout = 50 * time.Millisecond
	s, err := osclient.New(t.Context(), cfg)
	for n := 0; err != nil && n < 1000; n++ { // on a busy machine the login itself may take longer
		s, err = osclient.New(t.Context(), cfg)
	}
	if err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	w.answer = func(http.ResponseWriter, *http.Request) bool { <-release; return false }
	err = get(t.Context(), t, s)
	close(release)
	if trove.KindOf(err) != trove.KindUnavailable || !strings.Contains(trove.MessageOf(err), "did not answer within 50ms") {
		t.Errorf("got %v", err)
	}
	w.Close()
	if err := get(t.Context(), t, patient); trove.KindOf(err) != trove.KindUnavailable || !strings.Contains(trove.MessageOf(err), "cannot be reached") {
		t.Errorf("a service that is gone: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := get(ctx, t, patient); !errors.Is(err, context.Canceled) || trove.IsPermanent(err) {
		t.Errorf("a caller who does not wait: %v", err)
	}
}

func TestATokenThatEndedIsReplacedOnce(t *testing.T) {
	w := newWorld(t)
	s := w.session(t)
	w.answer = func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("X-Auth-Token") == "token-1" {
			rw.WriteHeader(http.StatusUnauthorized)
			return true
		}
		return false
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := get(t.Context(), t, s); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if w.logins != 2 {
		t.Errorf("%d logins, want 2", w.logins)
	}
	w.answer = func(rw http.ResponseWriter, _ *http.Request) bool {
		rw.WriteHeader(http.StatusUnauthorized)
		return true
	}
	w.refuse = true
	err := get(t.Context(), t, s)
	if trove.KindOf(err) != trove.KindUnavailable || !strings.Contains(trove.MessageOf(err), "cannot log in") {
		t.Errorf("without a login: %v", err)
	}
	if strings.Contains(fmt.Sprintf("%v %+v", err, err), password) {
		t.Error("the password is in the error")
	}
}

func TestACallersTokenActsForItselfAlone(t *testing.T) {
	w := newWorld(t)
	caller := w.session(t).As("callers-token", "p2")
	if err := get(t.Context(), t, caller); err != nil || w.tokens[0] != "callers-token" {
		t.Errorf("asked with %v: %v", w.tokens, err)
	}
	v, err := caller.Volume()
	if err != nil || !strings.HasSuffix(v.Endpoint, "/volume/v3/p2/") {
		t.Errorf("the endpoint of another project's volumes is %s: %v", v.Endpoint, err)
	}
	w.tokens, w.answer = nil, func(rw http.ResponseWriter, _ *http.Request) bool {
		rw.WriteHeader(http.StatusUnauthorized)
		return true
	}
	err = get(t.Context(), t, caller)
	if trove.KindOf(err) != trove.KindUnauthorized || len(w.tokens) != 1 || w.logins != 1 {
		t.Errorf("a token that is not taken: %v, asked with %v after %d logins", err, w.tokens, w.logins)
	}
}

func TestEndpointsComeFromTheCatalogue(t *testing.T) {
	s := newWorld(t).session(t)
	n, err := s.Network()
	if err != nil || !strings.HasSuffix(n.ServiceURL("ports"), "/network/v2.0/ports") {
		t.Errorf("ports are at %s: %v", n.ServiceURL("ports"), err)
	}
	if _, err := s.Image(); trove.KindOf(err) != trove.KindNotImplemented || !strings.Contains(trove.MessageOf(err), "Glance in the region RegionOne") {
		t.Errorf("an image service of another region: %v", err)
	}
	if s.ProjectID() != "p1" || s.UserID() != "u1" {
		t.Errorf("project %s, user %s", s.ProjectID(), s.UserID())
	}
}

func TestRequestsAreCounted(t *testing.T) {
	w, reg := newWorld(t), prometheus.NewRegistry()
	cfg := w.config()
	cfg.Metrics = reg
	for range 2 { // a second session counts in the same metrics
		s, err := osclient.New(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := get(t.Context(), t, s); err != nil {
			t.Fatal(err)
		}
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "trove_openstack_requests_total" {
				got = append(got, fmt.Sprintf("%s %s %s: %v", m.GetLabel()[1].GetValue(), m.GetLabel()[0].GetValue(), m.GetLabel()[2].GetValue(), m.GetCounter().GetValue()))
			}
		}
	}
	if want := []string{"Nova GET 200: 2", "Keystone POST 201: 2"}; !slices.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}
