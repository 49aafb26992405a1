package guestagent_test

import (
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/fake"
	"github.com/trove-dbaas/trove/guestapi"
)

// TestTLSOverTheBus takes the TLS of a guest through its changes, as a controller does.
func TestTLSOverTheBus(t *testing.T) {
	g := newGuest(t)
	g.prepared()
	c := guestapi.NewClient(g.ctl)
	want := func(on bool, mode, cert string) {
		t.Helper()
		s, err := c.TLS(t.Context(), g.id)
		if err != nil || s.On != on || s.Mode != mode || s.Cert != cert {
			t.Errorf("%+v, %v; want %t %s", s, err, on, mode)
		}
	}
	want(true, "builtin", fake.OwnCert)
	if _, err := c.RollbackTLS(t.Context(), g.id); trove.KindOf(err) != trove.KindBadRequest {
		t.Errorf("a rollback before any change: %v", err)
	}
	if _, err := c.SetTLS(t.Context(), g.id, guestapi.SetTLSArgs{Mode: "mtls"}); trove.KindOf(err) != trove.KindBadRequest {
		t.Errorf("mtls without authorities: %v", err)
	}
	if done, err := c.SetTLS(t.Context(), g.id, guestapi.SetTLSArgs{Mode: "mtls", Cert: "c", Key: "k", CA: "a"}); err != nil || done.Restart {
		t.Errorf("%+v, %v", done, err)
	}
	want(true, "mtls", "c")
	if done, err := c.SetTLS(t.Context(), g.id, guestapi.SetTLSArgs{Off: true}); err != nil || !done.Restart {
		t.Errorf("%+v, %v", done, err)
	}
	want(false, "builtin", "")
	if done, err := c.RollbackTLS(t.Context(), g.id); err != nil || !done.Restart {
		t.Errorf("%+v, %v", done, err)
	}
	want(true, "mtls", "c")
	m, err := c.Machine(t.Context(), g.id)
	if err != nil || m.MemoryKiB <= 0 || m.CPUs <= 0 || m.Agent.Threads <= 0 {
		t.Errorf("%+v, %v", m, err)
	}
}

// plain is an engine without abilities beside the first ones.
type plain struct{ engine.Engine }

// TestTrap20TLSOfAnEngineThatCannot: the words are what tempest takes for a feature.
func TestTrap20TLSOfAnEngineThatCannot(t *testing.T) {
	g := newGuest(t)
	g.cfg.Engine = plain{g.cfg.Engine}
	g.prepared()
	c := guestapi.NewClient(g.ctl)
	_, err := c.SetTLS(t.Context(), g.id, guestapi.SetTLSArgs{Off: true})
	if trove.KindOf(err) != trove.KindNotImplemented || !strings.Contains(trove.MessageOf(err), "Not supported") {
		t.Errorf("%v", err)
	}
	if _, err := c.TLS(t.Context(), g.id); trove.KindOf(err) != trove.KindNotImplemented {
		t.Errorf("%v", err)
	}
}
