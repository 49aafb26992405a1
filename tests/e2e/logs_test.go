package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/gateway/grant"
	"github.com/trove-dbaas/trove/guestagent/objects"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/imagelayout"
	"github.com/trove-dbaas/trove/internal/keyfile"
	"github.com/trove-dbaas/trove/internal/sealedkeys"
	secretsfile "github.com/trove-dbaas/trove/secrets/file"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

// deny lets a login fail, which the server writes into its error log with the user's name.
func deny(t *testing.T, i wire.Instance, name string) {
	t.Helper()
	if err := open(t, i, name, "wrong", "").PingContext(t.Context()); err == nil {
		t.Fatalf("%s logged in", name)
	}
}

func (d *deployment) published(id, log string) string {
	d.t.Helper()
	return d.trove("log", "cat", id, log)
}

// TestPublishLogs provokes lines in a real database's logs and reads them back through the API.
func TestPublishLogs(t *testing.T) {
	d := sharedDeployment(t)
	i := d.create("logs")
	deny(t, i, "intruder_one")
	if out, err := d.try("log", "cat", i.ID, "error"); err == nil || !strings.Contains(err.Error(), "Nothing was published") {
		t.Errorf("before anything was published: %s %v", out, err)
	}
	d.trove("log", "publish", i.ID, "error")
	first := d.published(i.ID, "error")
	if strings.Count(first, "intruder_one") != 1 || !strings.Contains(first, "ready for connections") {
		t.Errorf("the error log:\n%s", first)
	}
	deny(t, i, "intruder_two")
	d.trove("log", "publish", i.ID, "error")
	second := d.published(i.ID, "error")
	if added, ok := strings.CutPrefix(second, first); !ok || strings.Count(added, "intruder_two") != 1 || strings.Contains(added, "intruder_one") {
		t.Errorf("only what is new was to be published:\n%s", second)
	}
	if tail := d.trove("log", "tail", i.ID, "error", "--lines", "1"); !strings.HasSuffix(second, tail) || strings.Count(tail, "\n") != 1 {
		t.Errorf("the last line: %q", tail)
	}
	file := filepath.Join(t.TempDir(), "error.log")
	d.trove("log", "save", i.ID, "error", "--file", file)
	if saved, err := os.ReadFile(file); err != nil || string(saved) != second {
		t.Errorf("saved %d bytes, %v; want %d", len(saved), err, len(second))
	}

	d.trove("log", "enable", i.ID, "general")
	d.trove("log", "enable", i.ID, "slow_query")
	// A session reads its settings at its start.
	db := open(t, i, "app", password, "app")
	queryString(t, db, "SELECT 'seen by the general log'")
	queryString(t, db, "SELECT SLEEP(1.2) AS slow_one")
	for log, want := range map[string]string{"general": "seen by the general log", "slow_query": "slow_one"} {
		d.trove("log", "publish", i.ID, log)
		if text := d.published(i.ID, log); !strings.Contains(text, want) {
			t.Errorf("%s does not tell %q:\n%s", log, want, text)
		}
		d.trove("log", "disable", i.ID, log)
	}
	queryString(t, db, "SELECT 'not seen any more'")
	var listed []struct{ Name, Type, Status string }
	if err := json.Unmarshal([]byte(d.trove("log", "list", i.ID, "-f", "json")), &listed); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(listed); got != "[{error SYS Published} {general USER Disabled} {slow_query USER Disabled}]" && !strings.Contains(got, "{error SYS Partial}") {
		t.Errorf("logs: %s", got)
	}
	d.trove("log", "discard", i.ID, "general")
	if _, err := d.try("log", "cat", i.ID, "general"); err == nil {
		t.Error("what was discarded can be read")
	}
	d.hostileGuest(t, i)
	d.remove(i.ID)
	if left := d.objectsOf(i.ID); len(left) != 0 {
		t.Errorf("after the deletion there is still %v", left)
	}
}

// objectsOf returns the files of an instance's objects.
func (d *deployment) objectsOf(id string) []string {
	d.t.Helper()
	found, err := filepath.Glob(filepath.Join(d.state, "objects", "*", "*", id+"*"))
	if err != nil {
		d.t.Fatal(err)
	}
	return found
}

// stolen is a guest's identity, as its root can read it.
type stolen struct {
	key  nkeys.KeyPair
	ca   string
	host string // where the controllers are
}

func (s *stolen) Sign(text []byte) ([]byte, error) { return s.key.Sign(text) }
func (s *stolen) CABundle() (string, error)        { return s.ca, nil }
func (*stolen) CertificateTime() time.Time         { return time.Now() }

func steal(t testing.TB, agent int) *stolen {
	t.Helper()
	dir := filepath.Join("/proc", strconv.Itoa(agent), "root", imagelayout.DataDir, "trove", "identity")
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
	host, _, err := net.SplitHostPort(c.Addresses[0])
	if err != nil {
		t.Fatal(err)
	}
	return &stolen{key, c.CABundle, host}
}

// within runs f in the network of a process.
func within(t testing.TB, pid int, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := os.Open("/proc/" + strconv.Itoa(pid) + "/ns/net")
		if err != nil {
			t.Error(err)
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		f()
	}()
	<-done
}

// keys are the keys of the deployment, as one who has its store and its master key reads them.
func (d *deployment) keys(t *testing.T) keyfile.Keeper {
	t.Helper()
	st, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(d.state, "store.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	sealer, err := secretsfile.Open(filepath.Join(d.state, "keys", "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	k, err := sealedkeys.Open(t.Context(), st, sealer, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// hostileGuest speaks to the gateway from inside the sandbox's network with the guest's own key: it can use the grant that was made for it and nothing else.
func (d *deployment) hostileGuest(t *testing.T, mine wire.Instance) {
	t.Helper()
	theirs := d.create("neighbour")
	project, err := d.client.ProjectID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := grant.Open(t.Context(), d.keys(t), clock.System{})
	if err != nil {
		t.Fatal(err)
	}
	agents := map[string]int{}
	guests := map[string]*stolen{}
	for _, i := range []wire.Instance{mine, theirs} {
		g := &guest{t: t, d: d, id: i.ID}
		agents[i.ID] = g.agent()
		guests[i.ID] = steal(t, agents[i.ID])
	}
	made := func(i wire.Instance, method string) guestapi.Grant {
		public, err := guests[i.ID].key.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		s := grant.Grant{
			Instance: i.ID, Key: public, Container: backupstore.Container{Project: project, Name: trove.LogContainer}, Method: method,
			Prefix: i.ID + "/mariadb-error/attack/", Expires: time.Now().Add(time.Minute).Truncate(time.Second),
		}
		if method == http.MethodPut {
			s.MaxBytes = 1000
		}
		token, err := keys.Sign(s)
		if err != nil {
			t.Fatal(err)
		}
		return guestapi.Grant{URLs: []string{"https://" + net.JoinHostPort(guests[i.ID].host, "4224")}, Method: method, Prefix: s.Prefix, MaxBytes: s.MaxBytes, Expires: s.Expires, Token: token.Reveal()}
	}
	within(t, agents[mine.ID], func() {
		d.attackGateway(objects.New(guests[mine.ID], clock.System{}, slog.New(slog.DiscardHandler)), mine, theirs, made)
	})
	if files := d.objectsOf(theirs.ID); len(files) != 0 {
		t.Errorf("the neighbour has %v", files)
	}
	text := d.metricsPage()
	for _, reason := range []string{"guest", "prefix", "operation", "too_large", "sealed"} {
		if !strings.Contains(text, `trove_gateway_refused_total{reason="`+reason+`"}`) {
			t.Errorf("no metric of refusals for %q", reason)
		}
	}
	log, err := os.ReadFile(d.common().LogFile())
	if err != nil || !strings.Contains(string(log), "object request refused") {
		t.Errorf("the refusals are not in the log: %v", err)
	}
}

func (d *deployment) metricsPage() string {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), http.MethodGet, "http://"+d.listen+"/metrics", http.NoBody)
	if err != nil {
		d.t.Fatal(err)
	}
	answer, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return string(text)
}

func (d *deployment) attackGateway(c *objects.Client, mine, theirs wire.Instance, made func(wire.Instance, string) guestapi.Grant) {
	t := d.t
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	put := func(g guestapi.Grant, name, text string) error {
		_, err := c.PutBytes(ctx, g, name, []byte(text))
		return err
	}
	own := made(mine, http.MethodPut)
	if err := put(own, own.Prefix+"1", "in order"); err != nil {
		t.Fatalf("the guest's own grant: %v", err)
	}
	other := made(theirs, http.MethodPut)
	for what, err := range map[string]error{
		"the neighbour's grant":         put(other, other.Prefix+"1", "x"),
		"the neighbour's prefix":        put(own, other.Prefix+"1", "x"),
		"a prefix that looks alike":     put(own, strings.TrimSuffix(own.Prefix, "/")+"er/1", "x"),
		"another log":                   put(own, mine.ID+"/mariadb-general/1", "x"),
		"the records of the controller": put(own, mine.ID+"/mariadb-error_published/00000001", "x"),
		"too much":                      put(own, own.Prefix+"2", strings.Repeat("x", 2000)),
		"in place of what is there":     put(own, own.Prefix+"1", "changed"),
		"reading with it":               read(ctx, c, own, own.Prefix+"1"),
		"reading the neighbour's":       read(ctx, c, made(theirs, http.MethodGet), other.Prefix+"1"),
	} {
		if kind := trove.KindOf(err); err == nil || kind != trove.KindForbidden && kind != trove.KindOverLimit && kind != trove.KindConflict {
			t.Errorf("%s: %v, want a refusal", what, err)
		}
	}
}

func read(ctx context.Context, c *objects.Client, g guestapi.Grant, name string) error {
	body, err := c.Get(ctx, g, name)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, body)
	_ = body.Close()
	return err
}
