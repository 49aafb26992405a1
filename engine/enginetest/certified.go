package enginetest

import (
	"bytes"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// certified gives a server certificates of the service: before its first start, while it runs and while it is down. One of a user's goes before them.
func certified(t *testing.T, s Setup) {
	e, ok := s.Engine.(engine.Certified)
	if !ok {
		return
	}
	source, ok := s.Engine.(engine.TLSSource)
	if !ok {
		t.Fatal("an engine that takes certificates cannot tell which one it shows")
	}
	ctx, l := t.Context(), s.Layout
	shows := func(what string, want []byte) {
		t.Helper()
		got, err := source.TLS(ctx, l)
		must(t, err)
		if !bytes.Equal(got.Cert, want) {
			t.Errorf("%s: the server shows another certificate", what)
		}
		if s.Shown == nil {
			return
		}
		if got, err := s.Shown(ctx, l); err != nil || !bytes.Equal(got, leaf(t, want)) {
			t.Errorf("%s: clients see another certificate (%v)", what, err)
		}
	}
	first, firstKey := Certificate(t, "first")
	second, secondKey := Certificate(t, "second")
	third, thirdKey := Certificate(t, "third")
	users, userKey := Certificate(t, "a user's")
	server := startedWith(t, s, engine.Preparation{
		TLSCert: first, TLSKey: firstKey, Users: []trove.User{{Name: "alice", Password: alicePassword}}, // some servers speak with nobody while there are no users
	})
	shows("from the first start on", first)
	for range 2 {
		must(t, e.UseCertificate(ctx, l, second, secondKey))
	}
	shows("in the running server", second)
	wantKind(t, "a certificate with another's key", e.UseCertificate(ctx, l, third, secondKey), trove.KindBadRequest)
	wantKind(t, "no certificate", e.UseCertificate(ctx, l, nil, nil), trove.KindBadRequest)
	shows("after what was refused", second)
	server.Stop()
	must(t, e.UseCertificate(ctx, l, third, thirdKey))
	server = Start(t, s)
	shows("given while the server was down", third)

	restart := func(change engine.TLSChange) {
		t.Helper()
		needed, err := source.SetTLS(ctx, l, change)
		must(t, err)
		if needed {
			server.Stop()
			server = Start(t, s)
		}
	}
	restart(engine.TLSChange{Mode: engine.TLSBasic, Cert: users, Key: userKey})
	must(t, e.UseCertificate(ctx, l, second, secondKey))
	shows("beside a user's", users)
	restart(engine.TLSChange{Mode: engine.TLSBasic})
	shows("after the user's", second)
	restart(engine.TLSChange{Off: true})
	must(t, e.UseCertificate(ctx, l, first, firstKey))
	restart(engine.TLSChange{Mode: engine.TLSBasic})
	shows("given while TLS was off", first)
	server.Stop()
}
