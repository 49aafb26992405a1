package barbican_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/openstacktest"
	"github.com/trove-dbaas/trove/secrets"
	"github.com/trove-dbaas/trove/secrets/barbican"
	"github.com/trove-dbaas/trove/secrets/keyring"
	"github.com/trove-dbaas/trove/secrets/secretstest"
)

const name = "trove-master-key"

func TestConformance(t *testing.T) {
	secretstest.Run(t, func(t *testing.T) secrets.Sealer {
		m, err := barbican.Make(t.Context(), barbican.Config{Session: openstacktest.New(t, "admin").Session(t), Name: name})
		if err != nil {
			t.Fatal(err)
		}
		return m
	})
}

// world is a Barbican and a clock that processes share.
type world struct {
	*testing.T
	cloud *openstacktest.Cloud
	clock *clock.Manual
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{t, openstacktest.New(t, "admin"), clock.NewManual(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))}
}

func (w *world) cfg() barbican.Config {
	return barbican.Config{Session: w.cloud.Session(w.T), Name: name, Clock: w.clock}
}

// open is another process.
func (w *world) open() *barbican.Master {
	w.Helper()
	m, err := barbican.Open(w.Context(), w.cfg())
	if err != nil {
		w.Fatal(err)
	}
	return m
}

func (w *world) seal(m *barbican.Master) string {
	w.Helper()
	text, err := m.Seal(w.Context(), "p", "secret")
	if err != nil {
		w.Fatal(err)
	}
	return text
}

func (w *world) opens(m *barbican.Master, text string) {
	w.Helper()
	if got, err := m.Open(w.Context(), "p", text); err != nil || got.Reveal() != "secret" {
		w.Errorf("open: %v", err)
	}
}

func TestTheKeyIsInBarbican(t *testing.T) {
	w := newWorld(t)
	if _, err := barbican.Open(t.Context(), w.cfg()); !trove.IsNotFound(err) || !strings.Contains(trove.MessageOf(err), name) {
		t.Errorf("before there is one: %v", err)
	}
	first, err := barbican.Make(t.Context(), w.cfg())
	if err != nil {
		t.Fatal(err)
	}
	kept := w.cloud.Secrets(openstacktest.ServiceProject, name)
	if len(kept) != 1 {
		t.Fatalf("%d secrets, want one", len(kept))
	}
	text := w.seal(first)
	w.opens(w.open(), text)
	w.cloud.PutSecret("another project", name, "text/plain", []byte("0a0b0c0d AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="))
	w.cloud.PutSecret(openstacktest.ServiceProject, name+"2", "text/plain", []byte("something else"))
	if keys, err := w.open().Keys(t.Context()); err != nil || len(keys) != 1 {
		t.Errorf("keys %v, %v", keys, err)
	}
}

// TestRotation has two processes: what one seals under a new key the other opens at once, and seals under it before long.
func TestRotation(t *testing.T) {
	w := newWorld(t)
	a, err := barbican.Make(t.Context(), w.cfg())
	if err != nil {
		t.Fatal(err)
	}
	b := w.open()
	old := w.seal(b)
	w.clock.Add(10 * time.Second)
	made, err := a.Rotate(t.Context(), w.clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	fresh := w.seal(a)
	if ids := keyring.KeysIn(fresh); ids[0] != made.ID {
		t.Errorf("sealed under %v, want %s", ids, made.ID)
	}
	w.opens(b, fresh)
	w.opens(a, old)
	w.clock.Add(2 * time.Minute)
	if ids := keyring.KeysIn(w.seal(b)); ids[0] != made.ID {
		t.Errorf("the other seals under %v, want %s", ids, made.ID)
	}
	again, changed := b.Rewrap(old)
	if !changed {
		t.Fatal("the old text was not sealed anew")
	}
	keys, err := a.Keys(t.Context())
	if err != nil || len(keys) != 2 || keys[0].ID != made.ID {
		t.Fatalf("keys %v, %v", keys, err)
	}
	if err := a.Drop(t.Context(), keys[0].ID, keys[1].ID); err != nil { // the one that seals stays
		t.Fatal(err)
	}
	if kept := w.cloud.Secrets(openstacktest.ServiceProject, name); len(kept) != 1 || !strings.HasPrefix(kept[0], made.ID) {
		t.Errorf("%d secrets are kept, want the one of %s", len(kept), made.ID)
	}
	c := w.open()
	w.opens(c, again)
	if _, err := c.Open(t.Context(), "p", old); !trove.IsPermanent(err) {
		t.Errorf("what was sealed under a dropped key: %v", err)
	}
	if _, err := a.Prepare(t.Context(), w.clock.Now()); trove.KindOf(err) != trove.KindNotImplemented {
		t.Errorf("prepare: %v", err)
	}
}

// TestRotationsAtOnce lets several processes make keys at the same time: none is lost, all agree on the one that seals.
func TestRotationsAtOnce(t *testing.T) {
	w := newWorld(t)
	if _, err := barbican.Make(t.Context(), w.cfg()); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	texts := make([]string, 4)
	for n := range texts {
		m := w.open()
		all.Go(func() {
			if _, err := m.Rotate(t.Context(), w.clock.Now()); err != nil {
				t.Error(err)
				return
			}
			texts[n], _ = m.Seal(t.Context(), "p", "secret")
		})
	}
	all.Wait()
	for _, m := range []*barbican.Master{w.open(), w.open()} {
		for _, text := range texts {
			w.opens(m, text)
		}
	}
	if a, b := keyring.KeysIn(w.seal(w.open())), keyring.KeysIn(w.seal(w.open())); a[0] != b[0] {
		t.Errorf("sealed under %v and %v", a, b)
	}
}

func TestABarbicanThatIsAway(t *testing.T) {
	w := newWorld(t)
	m, err := barbican.Make(t.Context(), w.cfg())
	if err != nil {
		t.Fatal(err)
	}
	session := w.cfg()
	w.cloud.Away("Barbican", true)
	if _, err := barbican.Open(t.Context(), session); trove.KindOf(err) != trove.KindUnavailable || !strings.Contains(trove.MessageOf(err), "Barbican") {
		t.Errorf("at the start: %v, want unavailable and who it is", err)
	}
	w.clock.Add(time.Hour)
	w.opens(m, w.seal(m)) // what is known is enough
	if _, err := m.Rotate(t.Context(), w.clock.Now()); trove.KindOf(err) != trove.KindUnavailable {
		t.Errorf("rotate: %v", err)
	}
	// What another process has sealed under a key that this one has not seen opens when Barbican is back: the error is none for ever.
	w.cloud.Away("Barbican", false)
	other := w.open()
	if _, err := other.Rotate(t.Context(), w.clock.Now()); err != nil {
		t.Fatal(err)
	}
	text := w.seal(other)
	w.cloud.Away("Barbican", true)
	if _, err := m.Open(t.Context(), "p", text); err == nil || trove.IsPermanent(err) {
		t.Errorf("open what needs a new key: %v, want an error that passes", err)
	}
	w.cloud.Away("Barbican", false)
	w.opens(m, text)
}

func TestKeysOfAFileAreTakenOver(t *testing.T) {
	w := newWorld(t)
	lines := "0a0b0c0d AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n01020304 AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= 2026-01-01T00:00:00Z\n"
	m, err := barbican.Make(t.Context(), w.cfg())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := m.Add(t.Context(), []byte(lines)); err != nil {
			t.Fatal(err)
		}
	}
	if keys, err := w.open().Keys(t.Context()); err != nil || len(keys) != 3 {
		t.Errorf("keys %v, %v", keys, err)
	}
	out, err := m.Lines(t.Context())
	if err != nil || !strings.Contains(string(out), "0a0b0c0d AAAA") {
		t.Errorf("the lines were not given back: %v", err)
	}
}

const (
	tenant = "3d1c9a526c1e4a0c8f0e1b5d0b8a7c11"
	other  = "77777777777777777777777777777777"
)

func TestSecretsOfTenantsAreReadWithTheirRights(t *testing.T) {
	w := newWorld(t)
	w.cloud.Token("alice's", openstacktest.Who{UserID: "alice", ProjectID: tenant, Roles: []string{"member"}})
	v := barbican.Vault{Session: w.cloud.Session(t)}
	text := w.cloud.PutSecret(tenant, "certificate", "text/plain", []byte("PEM"))
	binary := w.cloud.PutSecret(tenant, "bundle", "application/octet-stream", []byte{0, 1, 2})
	both := w.cloud.PutContainer(tenant, map[string]string{"certificate": text, "private_key": binary})
	foreign := w.cloud.PutSecret(other, "x", "text/plain", []byte("of another project"))
	leads := w.cloud.PutContainer(tenant, map[string]string{"certificate": foreign})
	w.cloud.Requests()
	for ref, want := range map[string]map[string]trove.Secret{
		text: {"": "PEM"}, binary: {"": "\x00\x01\x02"}, both: {"certificate": "PEM", "private_key": "\x00\x01\x02"},
		strings.Replace(text, w.cloud.URL+"/barbican", "https://keys.example", 1): {"": "PEM"}, // only the id counts
	} {
		got, err := v.Read(t.Context(), "alice's", tenant, ref)
		if err != nil || len(got) != len(want) {
			t.Errorf("%s: %v", ref, err)
		}
		for name := range want {
			if got[name].Reveal() != want[name].Reveal() {
				t.Errorf("%s: %q is another text", ref, name)
			}
		}
	}
	for ref, want := range map[string]trove.Kind{
		foreign: trove.KindForbidden, leads: trove.KindForbidden, w.cloud.URL + "/barbican/v1/secrets/" + trove.NewID(): trove.KindNotFound,
		"": trove.KindBadRequest, "secret": trove.KindBadRequest, "file:///v1/secrets/" + trove.NewID(): trove.KindBadRequest,
		text + "/payload": trove.KindBadRequest, text + "?x=y": trove.KindBadRequest, strings.Replace(text, "secrets", "orders", 1): trove.KindBadRequest,
		w.cloud.URL + "/v1/secrets/..": trove.KindBadRequest,
	} {
		if got, err := v.Read(t.Context(), "alice's", tenant, ref); trove.KindOf(err) != want || err == nil || got[""] != "" {
			t.Errorf("%s: %v, want %v", ref, err, want)
		}
	}
	for _, r := range w.cloud.Requests() {
		if r.Who.UserID != "alice" {
			t.Errorf("%s %s was asked by %+v", r.Method, r.Path, r.Who)
		}
	}
	if _, err := v.Read(t.Context(), "unknown", tenant, text); trove.KindOf(err) != trove.KindUnauthorized {
		t.Errorf("with a token that is none: %v", err)
	}
}
