package server_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/natsbus/server"
	"github.com/trove-dbaas/trove/guestapi"
)

// stolen is what somebody has who broke into one guest.
type stolen struct {
	site     *site
	instance string
	key      nkeys.KeyPair
	jwt      string
}

func (s *site) steal(t testing.TB, dir, instance string) *stolen {
	t.Helper()
	seed, err := os.ReadFile(filepath.Join(dir, "guest.nk"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := nkeys.FromSeed(seed)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "credential.json"))
	if err != nil {
		t.Fatal(err)
	}
	var c bus.Credential
	if err := json.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	return &stolen{site: s, instance: instance, key: key, jwt: c.JWT}
}

func (v *stolen) public(t testing.TB) string {
	t.Helper()
	p, err := v.key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// attacker is a connection that remembers what the broker complained about.
type attacker struct {
	*nats.Conn
	mu     sync.Mutex
	errors []string
}

func (v *stolen) attack(t testing.TB, more ...nats.Option) *attacker {
	t.Helper()
	a, err := v.tryAttack(t, more...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (v *stolen) tryAttack(t testing.TB, more ...nats.Option) (*attacker, error) {
	t.Helper()
	a := &attacker{}
	options := append([]nats.Option{
		nats.Secure(&tls.Config{RootCAs: v.site.roots(t), MinVersion: tls.VersionTLS13}),
		nats.UserJWT(func() (string, error) { return v.jwt, nil }, v.key.Sign),
		nats.NoReconnect(),
		nats.Timeout(patience),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.errors = append(a.errors, err.Error())
		}),
	}, more...)
	var err error
	a.Conn, err = nats.Connect("tls://"+v.site.Addresses()[0], options...)
	if err == nil {
		t.Cleanup(a.Close)
	}
	return a, err
}

func (a *attacker) complained(about ...string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.errors {
		all := true
		for _, part := range about {
			all = all && strings.Contains(strings.ToLower(e), strings.ToLower(part))
		}
		if all {
			return true
		}
	}
	return false
}

func (s *site) roots(t testing.TB) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(s.CABundle())) {
		t.Fatal("no certificate in the bundle")
	}
	return pool
}

func TestAGuestMaySubscribeToNothingButItsCommands(t *testing.T) {
	s := start(t)
	instance, other := trove.NewID(), trove.NewID()
	a := s.steal(t, s.enrolled(t, instance), instance).attack(t)
	if _, err := a.SubscribeSync(guestapi.CommandSubject(instance)); err != nil {
		t.Fatal(err)
	}
	refused := []string{
		guestapi.CommandSubject(other), guestapi.CommandSubject("*"), ">", "trove.>", "trove.v1.guest." + instance + ".>", "_INBOX.>",
		"_INBOX.ctl.>", "$SYS.>", "$JS.>", "_R_.>", "trove.v1.ctl.>", guestapi.WakeSubject, guestapi.ReportSubject(other, "hb"),
		guestapi.ReportSubject(instance, "hb"), guestapi.AllReports,
	}
	for _, subject := range refused {
		sub, err := a.SubscribeSync(subject)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the refusal of "+subject, func() bool { return a.complained("permissions violation", `subscription to "`+subject+`"`) })
		_ = sub.Unsubscribe()
	}
	if _, err := a.QueueSubscribeSync(guestapi.CommandSubject(other), "q"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the refusal of a queue", func() bool { return a.complained("permissions violation", `using queue "q"`) })
	if a.complained("subscription to \"" + guestapi.CommandSubject(instance) + `"`) {
		t.Error("the guest's own commands were refused")
	}
}

func TestAGuestMayPublishNothingButItsReports(t *testing.T) {
	s := start(t)
	instance, other := trove.NewID(), trove.NewID()
	a := s.steal(t, s.enrolled(t, instance), instance).attack(t)
	for _, subject := range []string{
		guestapi.ReportSubject(other, "hb"), guestapi.CommandSubject(other), guestapi.CommandSubject(instance), guestapi.WakeSubject,
		guestapi.AccountSubject, "$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.ACCOUNT.X.CLAIMS.UPDATE", "_INBOX.ctl.requests.x",
		guestapi.ReportSubject(instance, "a.b"), "trove.v1.guest." + instance + ".up",
	} {
		if err := a.Publish(subject, []byte("x")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the refusal of "+subject, func() bool { return a.complained("permissions violation", `publish to "`+subject+`"`) })
	}
	if err := a.Publish(guestapi.ReportSubject(instance, "hb"), nil); err != nil {
		t.Fatal(err)
	}
	if err := a.Flush(); err != nil || a.complained(guestapi.ReportSubject(instance, "hb")) {
		t.Errorf("the guest's own report was refused: %v", err)
	}
}

func TestASubscriptionWithoutRightsIsForbidden(t *testing.T) {
	s := start(t)
	instance := trove.NewID()
	g := s.guest(t, instance)
	nothing := func(context.Context, bus.Message) {}
	if _, err := g.Subscribe(t.Context(), guestapi.CommandSubject(trove.NewID()), "", nothing); !errors.Is(err, bus.ErrForbidden) {
		t.Errorf("another guest's commands: %v, want ErrForbidden", err)
	}
	if _, err := g.Subscribe(t.Context(), guestapi.CommandSubject(instance), "", nothing); err != nil {
		t.Errorf("own commands: %v", err)
	}
}

func TestAnswersOfOthersDoNotCount(t *testing.T) {
	s := start(t)
	instance, thief := trove.NewID(), trove.NewID()
	inbox := make(chan string, 1)
	victim := s.steal(t, s.enrolled(t, instance), instance).attack(t)
	a := s.steal(t, s.enrolled(t, thief), thief).attack(t)
	answered := make(chan struct{})
	_, err := victim.Subscribe(guestapi.CommandSubject(instance), func(m *nats.Msg) {
		inbox <- m.Reply
		<-answered // the thief has been refused by now
		_ = m.Respond([]byte("real"))
		_ = m.Respond([]byte("second"))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Flush(); err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		answer, err := s.controller(t, "requests").Request(ctx, guestapi.CommandSubject(instance), nil)
		got <- fmt.Sprint(string(answer), err)
	}()
	reply := <-inbox
	if err := a.Publish(reply, []byte("false")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the refusal of a false answer", func() bool { return a.complained("permissions violation", reply) })
	close(answered)
	if answer := <-got; answer != "real<nil>" {
		t.Errorf("got %s, want real", answer)
	}
	eventually(t, "the refusal of the second answer", func() bool { return victim.complained("permissions violation", reply) })
}

func TestAControllerNeverAnswersWhereAGuestPoints(t *testing.T) {
	s := start(t)
	instance, thief := trove.NewID(), trove.NewID()
	received := make(chan string, 10)
	victim := s.guest(t, instance)
	if _, err := victim.Subscribe(t.Context(), guestapi.CommandSubject(instance), "", func(ctx context.Context, m bus.Message) {
		received <- string(m.Data)
		_ = m.Reply(ctx, nil)
	}); err != nil {
		t.Fatal(err)
	}
	handled := make(chan error, 10)
	reports := s.controller(t, "reports")
	if _, err := reports.Subscribe(t.Context(), guestapi.AllReports, "", func(ctx context.Context, m bus.Message) {
		handled <- m.Reply(ctx, []byte("drop all databases"))
	}); err != nil {
		t.Fatal(err)
	}
	a := s.steal(t, s.enrolled(t, thief), thief).attack(t)
	if err := a.PublishRequest(guestapi.ReportSubject(thief, "hello"), guestapi.CommandSubject(instance), nil); err != nil {
		t.Fatal(err)
	}
	if err := <-handled; err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := reports.Request(ctx, guestapi.CommandSubject(instance), []byte("marker")); err != nil {
		t.Fatal(err)
	}
	if first := <-received; first != "marker" {
		t.Errorf("the victim received %q", first)
	}
}

func TestTheFifthSubscriptionIsRefused(t *testing.T) {
	s := start(t)
	instance := trove.NewID()
	a := s.steal(t, s.enrolled(t, instance), instance).attack(t)
	for range 5 {
		if _, err := a.SubscribeSync(guestapi.CommandSubject(instance)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the refusal", func() bool { return a.complained("maximum subscriptions") })
}

// raw speaks the protocol by hand, past the checks of the client library.
func (v *stolen) raw(t *testing.T, connect bool) (net.Conn, *bufio.Reader) {
	t.Helper()
	plain, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", v.site.Addresses()[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plain.Close() })
	_ = plain.SetDeadline(time.Now().Add(patience))
	line, err := bufio.NewReader(plain).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var info struct{ Nonce string }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "INFO ")), &info); err != nil {
		t.Fatal(err)
	}
	c := tls.Client(plain, &tls.Config{RootCAs: v.site.roots(t), ServerName: "localhost", MinVersion: tls.VersionTLS13})
	if !connect {
		return c, bufio.NewReader(c)
	}
	signature, err := v.key.Sign([]byte(info.Nonce))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "CONNECT {\"jwt\":%q,\"sig\":%q,\"verbose\":false,\"protocol\":1}\r\nPING\r\n", v.jwt, base64.RawURLEncoding.EncodeToString(signature))
	r := bufio.NewReader(c)
	if !readUntil(r, "PONG") {
		t.Fatal("no answer to the ping")
	}
	return c, r
}

func readUntil(r *bufio.Reader, text string) bool {
	for {
		line, err := r.ReadString('\n')
		if strings.Contains(line, text) {
			return true
		}
		if err != nil {
			return false
		}
	}
}

func TestAnOversizedMessageEndsTheConnection(t *testing.T) {
	s := start(t)
	instance := trove.NewID()
	c, r := s.steal(t, s.enrolled(t, instance), instance).raw(t, true)
	fmt.Fprintf(c, "PUB %s 300000\r\n", guestapi.ReportSubject(instance, "hb"))
	if !readUntil(r, "Maximum Payload Violation") {
		t.Error("the broker did not say so")
	}
	if _, err := r.ReadByte(); err == nil {
		t.Error("the connection stayed open")
	}
}

func TestWithoutCredentialThereIsNothing(t *testing.T) {
	s := start(t)
	instance := trove.NewID()
	c, r := s.steal(t, s.enrolled(t, instance), instance).raw(t, false)
	fmt.Fprint(c, "CONNECT {\"verbose\":false}\r\nPING\r\n")
	if !readUntil(r, "Authorization Violation") {
		t.Error("the broker did not refuse")
	}
	conn, err := nats.Connect("tls://"+s.Addresses()[0], nats.Timeout(patience))
	if err == nil {
		conn.Close()
		t.Error("a client that does not know the authority connected")
	}
	old := &tls.Config{RootCAs: s.roots(t), MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12}
	if conn, err = nats.Connect("tls://"+s.Addresses()[0], nats.Timeout(patience), nats.Secure(old)); err == nil {
		conn.Close()
		t.Error("TLS 1.2 was accepted")
	}
}

func TestForgedCredentialsAreRefused(t *testing.T) {
	s := start(t)
	instance := trove.NewID()
	v := s.steal(t, s.enrolled(t, instance), instance)
	data, err := os.ReadFile(filepath.Join(s.keysDir(), "bus.json"))
	if err != nil {
		t.Fatal(err)
	}
	var seeds map[string]string
	if err := json.Unmarshal(data, &seeds); err != nil {
		t.Fatal(err)
	}
	pair := func(seed string) nkeys.KeyPair {
		p, err := nkeys.FromSeed([]byte(seed))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	account, err := pair(seeds["account"]).PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	mint := func(signer nkeys.KeyPair, change func(*jwt.UserClaims)) string {
		uc := jwt.NewUserClaims(v.public(t))
		uc.Name, uc.IssuerAccount = instance, account
		uc.SetScoped(true)
		change(uc)
		text, err := uc.Encode(signer)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	none := func(*jwt.UserClaims) {}
	own := func(uc *jwt.UserClaims) { uc.Sub.Allow.Add(">") }
	otherKey, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	good := *v
	good.jwt = mint(pair(seeds["guest_signer"]), none)
	if _, err := good.tryAttack(t); err != nil {
		t.Fatalf("the test's own credential is not accepted: %v", err)
	}
	for name, forged := range map[string]stolen{
		"another seed":            {site: s, key: otherKey, jwt: v.jwt},
		"a foreign account":       {site: s, key: v.key, jwt: mint(foreign, none)},
		"rights of its own":       {site: s, key: v.key, jwt: mint(pair(seeds["guest_signer"]), own)},
		"the account's own key":   {site: s, key: v.key, jwt: mint(pair(seeds["account"]), func(uc *jwt.UserClaims) { uc.IssuerAccount = "" })},
		"signed by the guest":     {site: s, key: v.key, jwt: v.jwt[:strings.LastIndex(v.jwt, ".")] + ".AAAA"},
		"an expired one":          {site: s, key: v.key, jwt: mint(pair(seeds["guest_signer"]), func(uc *jwt.UserClaims) { uc.Expires = 1 })},
		"a bearer of the account": {site: s, key: otherKey, jwt: mint(pair(seeds["account"]), func(uc *jwt.UserClaims) { uc.BearerToken = true })},
	} {
		if _, err := forged.tryAttack(t); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestOnlyInstancesGetIdentities(t *testing.T) {
	s := start(t)
	_, public := userKey(t)
	for _, name := range []string{"*", ">", "", "a.b", strings.ToUpper(trove.NewID()), trove.NewID() + ".x", "{{name()}}"} {
		if _, err := s.IssueGuest(t.Context(), name, public); !trove.IsPermanent(err) {
			t.Errorf("%q: %v, want a permanent error", name, err)
		}
	}
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	accountKey, err := account.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"", "x", accountKey} {
		if _, err := s.IssueGuest(t.Context(), trove.NewID(), key); !trove.IsPermanent(err) {
			t.Errorf("key %q: %v, want a permanent error", key, err)
		}
	}
	for _, name := range []string{"*", "a.b", "", "A", "trove requests"} {
		if c, err := s.Conn(t.Context(), name); err == nil {
			_ = c.Close()
			t.Errorf("controller %q was accepted", name)
		}
	}
}

func TestARevokedKeyIsOutAndStaysOut(t *testing.T) {
	s := start(t)
	instance := trove.NewID()
	v := s.steal(t, s.enrolled(t, instance), instance)
	a := v.attack(t)
	neighbour := s.guest(t, trove.NewID())
	if err := s.RevokeGuest(t.Context(), instance, v.public(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the revoked guest to be cut", func() bool { return !a.IsConnected() })
	if _, err := v.tryAttack(t); err == nil {
		t.Error("a revoked key came back")
	}
	if _, err := s.IssueGuest(t.Context(), instance, v.public(t)); !trove.IsPermanent(err) {
		t.Errorf("a new credential for a revoked key: %v", err)
	}
	if !neighbour.Connected() {
		t.Error("the neighbour was cut too")
	}
	if err := s.RevokeGuest(t.Context(), instance, v.public(t)); err != nil {
		t.Errorf("revoked again: %v", err)
	}
	cfg := s.cfg
	cfg.Metrics = nil
	other, err := server.Start(t.Context(), cfg) // the same keys and store: what a restart does
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	again := *v
	again.site = &site{Server: other}
	if _, err := again.tryAttack(t); err == nil {
		t.Error("a revoked key was accepted by a broker that started later")
	}
}
