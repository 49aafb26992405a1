package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/natsbus"
	"github.com/trove-dbaas/trove/bus/natsbus/server"
	"github.com/trove-dbaas/trove/guestapi"
)

func (s *site) metric(t *testing.T, name, label string) float64 {
	t.Helper()
	families, err := s.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if label == "" || m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

// call posts a body to the endpoint, or gets if it is nil.
func (s *site) call(t *testing.T, path string, body any) (int, []byte) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots(t), MinVersion: tls.VersionTLS13}}
	defer transport.CloseIdleConnections()
	method, data := http.MethodGet, []byte(nil)
	switch b := body.(type) {
	case nil:
	case []byte:
		method, data = http.MethodPost, b
	default:
		method = http.MethodPost
		var err error
		if data, err = json.Marshal(b); err != nil {
			t.Fatal(err)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), method, s.EnrolURLs()[0]+path, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: transport, Timeout: patience}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, answer
}

func TestATokenWorksOnceAndTheSecondUseIsAnAlarm(t *testing.T) {
	s := start(t)
	instance := trove.NewID()
	boot := s.boot(t, instance)
	dir := t.TempDir()
	for range 2 { // the second time there is nothing to do
		if err := natsbus.Enrol(t.Context(), boot, dir); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.metric(t, "trove_bus_enrolment_requests_total", "enrolled"); n != 1 {
		t.Errorf("%v enrolments, want 1", n)
	}
	if s.guests.ends[instance].Before(time.Now().Add(23 * time.Hour)) {
		t.Errorf("the credential's end was noted as %v", s.guests.ends[instance])
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Fatalf("%v, %v, want 3 files", entries, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", e.Name(), info.Mode(), err)
		}
	}
	err = natsbus.Enrol(t.Context(), boot, t.TempDir()) // another machine with a copy of the boot data
	if trove.KindOf(err) != trove.KindConflict {
		t.Errorf("second use: %v, want a conflict", err)
	}
	if s.metric(t, "trove_bus_enrolment_requests_total", "token_reused") != 1 || !strings.Contains(s.log.String(), "level=WARN msg=\"alarm:") {
		t.Error("there was no alarm")
	}
	if strings.Contains(s.log.String(), boot.Token) {
		t.Error("the token is in the log")
	}
}

// lose takes a guest's credential away, at a time when its token is of no use any more.
func (s *site) lose(t *testing.T, boot bus.BootData, dir string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, "credential.json")); err != nil {
		t.Fatal(err)
	}
	s.guests.mu.Lock()
	s.guests.used[bus.HashToken(trove.Secret(boot.Token))] = "the time to ask again is over"
	s.guests.mu.Unlock()
}

func TestAGuestThatLostItsCredentialGetsAnother(t *testing.T) {
	s := start(t)
	instance := trove.NewID()
	boot := s.boot(t, instance)
	dir := t.TempDir()
	if err := natsbus.Enrol(t.Context(), boot, dir); err != nil {
		t.Fatal(err)
	}
	s.lose(t, boot, dir)
	if err := natsbus.Enrol(t.Context(), boot, dir); err != nil {
		t.Fatal(err)
	}
	s.join(t, dir)
	if s.metric(t, "trove_bus_enrolment_requests_total", "token_reused") != 0 || strings.Contains(s.log.String(), "alarm:") {
		t.Error("its own guest's second use of a token raised an alarm")
	}
	if s.metric(t, "trove_bus_enrolment_requests_total", "repeated") != 1 {
		t.Error("the second use was not counted")
	}
}

// TestAGuestWhoseCredentialIsDamagedGetsAnother, though the token of its present machine has expired unused: the guest had an identity when that was made.
func TestAGuestWhoseCredentialIsDamagedGetsAnother(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"damaged": func(path string) error { return os.WriteFile(path, make([]byte, 100), 0o600) },
		"lost":    os.Remove,
	} {
		s, instance := start(t), trove.NewID()
		dir := s.enrolled(t, instance)
		if err := spoil(filepath.Join(dir, "credential.json")); err != nil {
			t.Fatal(err)
		}
		boot := s.boot(t, instance)
		boot.Token = "expired"
		if err := natsbus.Enrol(t.Context(), boot, dir); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		s.join(t, dir)
	}
}

func TestEnrolSaysWhatIsWrong(t *testing.T) {
	s := start(t)
	good := s.boot(t, trove.NewID())
	for name, tt := range map[string]struct {
		change func(*bus.BootData)
		want   trove.Kind
	}{
		"unknown token": {func(b *bus.BootData) { b.Token = "x" }, trove.KindForbidden},
		"no endpoint":   {func(b *bus.BootData) { b.EnrolURLs = nil }, trove.KindBadRequest},
		"no authority":  {func(b *bus.BootData) { b.CABundle = "x" }, trove.KindBadRequest},
		"no instance":   {func(b *bus.BootData) { b.Instance = "../x" }, trove.KindBadRequest},
		"wrong target":  {func(b *bus.BootData) { b.Instance = trove.NewID() }, trove.KindBadRequest},
	} {
		boot := good
		boot.Token = s.boot(t, good.Instance).Token
		tt.change(&boot)
		if err := natsbus.Enrol(t.Context(), boot, t.TempDir()); trove.KindOf(err) != tt.want {
			t.Errorf("%s: %v (%v), want %v", name, err, trove.KindOf(err), tt.want)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	boot := good
	boot.EnrolURLs = []string{"https://127.0.0.1:1"}
	if err := natsbus.Enrol(ctx, boot, t.TempDir()); err == nil || trove.IsPermanent(err) {
		t.Errorf("no connection: %v, want a temporary error", err)
	}
	if _, err := natsbus.DialGuest(t.Context(), t.TempDir(), natsbus.Options{Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("a guest joined that never enrolled")
	}
}

// TestAGuestInAMachineThatWasMadeAnewFindsControllersThatMoved: its identity is on the volume, and says where they were; the boot data says where they are.
func TestAGuestInAMachineThatWasMadeAnewFindsControllersThatMoved(t *testing.T) {
	for name, change := range map[string]func(*site, *server.Config){
		"other addresses":              func(s *site, c *server.Config) { c.Keys = s.cfg.Keys },
		"other addresses and a new CA": func(*site, *server.Config) {},
	} {
		t.Run(name, func(t *testing.T) {
			before, instance := start(t), trove.NewID()
			dir := before.enrolled(t, instance)
			if err := before.Close(); err != nil {
				t.Fatal(err)
			}
			after := start(t, func(c *server.Config) { change(before, c) })
			after.guests.setKey(instance, before.guests.keys[instance])
			for range 2 { // the second start of the machine changes nothing
				if err := natsbus.Enrol(t.Context(), after.boot(t, instance), dir); err != nil {
					t.Fatal(err)
				}
			}
			connect(t, dir, time.Millisecond)
			if after.metric(t, "trove_bus_enrolment_requests_total", "renewed") == 0 {
				t.Error("it has no new credential")
			}
		})
	}
}

func TestACopiedVolumeGetsAKeyOfItsOwn(t *testing.T) {
	s := start(t)
	first, second := trove.NewID(), trove.NewID()
	dir := s.enrolled(t, first)
	before := s.steal(t, dir, first).public(t)
	if err := natsbus.Enrol(t.Context(), s.boot(t, second), dir); err != nil {
		t.Fatal(err)
	}
	if after := s.steal(t, dir, second).public(t); after == before || s.guests.keys[second] != after || s.guests.keys[first] != before {
		t.Errorf("keys %v, before %s, after %s", s.guests.keys, before, after)
	}
}

func TestRenewalNeedsTheCurrentKeyAndAFreshNonce(t *testing.T) {
	s := start(t)
	instance, other := trove.NewID(), trove.NewID()
	v := s.steal(t, s.enrolled(t, instance), instance)
	thief := s.steal(t, s.enrolled(t, other), other)
	nonce := func() string {
		var n natsbus.Nonce
		if _, answer := s.call(t, "/v1/nonce", nil); json.Unmarshal(answer, &n) != nil || n.Nonce == "" {
			t.Fatalf("nonce: %s", answer)
		}
		return n.Nonce
	}
	request := func(by *stolen, instance, nonce string) natsbus.RenewRequest {
		signature, err := by.key.Sign(natsbus.RenewText(instance, nonce))
		if err != nil {
			t.Fatal(err)
		}
		return natsbus.RenewRequest{
			Instance: instance, PublicKey: by.public(t), Nonce: nonce, Signature: base64.StdEncoding.EncodeToString(signature),
		}
	}
	n := nonce()
	claimed := request(thief, instance, n)
	claimed.PublicKey = v.public(t)
	forged := base64.RawURLEncoding.EncodeToString(make([]byte, 40))
	for name, tt := range map[string]struct {
		body natsbus.RenewRequest
		want int
	}{
		"own":                      {request(v, instance, n), 200},
		"another's instance":       {request(thief, instance, n), 403},
		"another's key":            {claimed, 403},
		"a nonce made by a guest":  {request(v, instance, forged), 400},
		"an instance that is gone": {request(v, trove.NewID(), n), 403},
	} {
		if status, answer := s.call(t, "/v1/renew", tt.body); status != tt.want {
			t.Errorf("%s: %d %s, want %d", name, status, answer, tt.want)
		}
	}
	if err := s.RevokeGuest(t.Context(), instance, v.public(t)); err != nil {
		t.Fatal(err)
	}
	if status, answer := s.call(t, "/v1/renew", request(v, instance, n)); status != 403 {
		t.Errorf("revoked: %d %s, want 403", status, answer)
	}
}

func TestAGuestRenewsByItselfAndStaysReachable(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *server.Config) { c.CredentialLife = 4 * time.Second })
	instance := trove.NewID()
	dir := s.enrolled(t, instance)
	first := s.steal(t, dir, instance).jwt
	g := s.join(t, dir)
	if _, err := g.Subscribe(t.Context(), guestapi.CommandSubject(instance), "", func(ctx context.Context, m bus.Message) {
		_ = m.Reply(ctx, []byte("here"))
	}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a new credential", func() bool { return s.steal(t, dir, instance).jwt != first })
	expired := time.Now().Add(4 * time.Second)
	eventually(t, "the first credential to have expired", func() bool { return time.Now().After(expired) })
	c := s.controller(t, "requests")
	eventually(t, "an answer after the first credential's end", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		answer, err := c.Request(ctx, guestapi.CommandSubject(instance), nil)
		return err == nil && string(answer) == "here"
	})
}

func TestAGuestThatSleptRenewsAndJoins(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *server.Config) { c.CredentialLife = 2 * time.Second })
	dir := s.enrolled(t, trove.NewID())
	asleep := time.Now().Add(3 * time.Second)
	eventually(t, "the credential to expire", func() bool { return time.Now().After(asleep) })
	s.join(t, dir)
}

func TestReplaceCredential(t *testing.T) {
	s := start(t)
	instance, other := trove.NewID(), trove.NewID()
	dir := s.enrolled(t, instance)
	v := s.steal(t, dir, instance)
	connects := make(chan struct{}, 10)
	g, err := natsbus.DialGuest(t.Context(), dir, natsbus.Options{
		Log: slog.New(slog.DiscardHandler), OnConnect: func(context.Context) { connects <- struct{}{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = g.Close() }()
	<-connects
	received := make(chan bus.Credential, 10)
	stop, err := guestapi.Serve(t.Context(), g, instance, slog.New(slog.DiscardHandler), func(_ context.Context, r guestapi.Request) (any, error) {
		var c bus.Credential
		if err := r.DecodeArgs(&c); err != nil {
			return nil, err
		}
		received <- c
		return nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	c, err := s.IssueGuest(t.Context(), instance, v.public(t))
	if err != nil {
		t.Fatal(err)
	}
	client := guestapi.NewClient(s.controller(t, "requests"))
	eventually(t, "the guest to take the command", func() bool { return client.RenewIdentity(t.Context(), instance, c) == nil })
	if err := g.ReplaceCredential(t.Context(), <-received); err != nil {
		t.Fatal(err)
	}
	select {
	case <-connects:
	case <-time.After(patience):
		t.Fatal("the guest did not connect anew")
	}
	if got := s.steal(t, dir, instance).jwt; got != c.JWT {
		t.Error("the new credential was not kept")
	}
	eventually(t, "the guest to answer again", func() bool { return client.RenewIdentity(t.Context(), instance, c) == nil })
	wrong, err := s.IssueGuest(t.Context(), other, v.public(t))
	if err != nil {
		t.Fatal(err)
	}
	nowhere := c
	nowhere.Addresses = nil
	untrusted := c
	untrusted.CABundle = ""
	for name, bad := range map[string]bus.Credential{"another guest's": wrong, "without address": nowhere, "without authority": untrusted, "empty": {}} {
		if err := g.ReplaceCredential(t.Context(), bad); trove.KindOf(err) != trove.KindBadRequest {
			t.Errorf("%s: %v, want bad request", name, err)
		}
	}
	if got := s.steal(t, dir, instance).jwt; got != c.JWT {
		t.Error("a bad credential replaced the good one")
	}
}

func TestKeysAreForTheirOwnerOnly(t *testing.T) {
	s := start(t)
	for _, name := range []string{"bus.json", "bus-ca.pem"} {
		info, err := os.Stat(filepath.Join(s.keysDir(), name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
	}
	if err := os.Chmod(filepath.Join(s.keysDir(), "bus-ca.pem"), 0o644); err != nil {
		t.Fatal(err)
	}
	cfg := s.cfg
	cfg.Metrics = nil
	if other, err := server.Start(t.Context(), cfg); err == nil {
		_ = other.Close()
		t.Error("a broker started with a key that all can read")
	}
}
