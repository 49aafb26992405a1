package enginetest

import (
	"context"
	"errors"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// Newer is a version of the product after the Setup's, on the same machine.
type Newer struct {
	Engine engine.Engine
	Root   string // the prefix of its programs
	Name   string // "11.8"
}

// upgrade takes a version's data over: repeated, cut off and repeated, and refused downwards. Without a newer version there is nothing to be done, which
// has to be so however often it is asked for.
func upgrade(t *testing.T, s Setup) {
	u, ok := s.Engine.(engine.Upgrader)
	if !ok {
		return
	}
	ctx, l := t.Context(), s.Layout
	fill(t, s)
	programs, _, err := u.Versions(ctx, l)
	if err != nil || programs == "" {
		t.Fatalf("Versions() before a start = %q, %v", programs, err)
	}
	_, err = u.CheckUpgrade(ctx, l, programs)
	wantKind(t, "CheckUpgrade of a server that is down", err, trove.KindUnavailable)
	srv := started(t, s)
	if s.Flat.Put != nil {
		must(t, s.Flat.Put(ctx, l, "alice", alicePassword, "kept", "42"))
	}
	wantVersions(t, "after the first start", u, l, programs)
	if found, err := u.CheckUpgrade(ctx, l, programs); err != nil || blocking(found) != "" {
		t.Errorf("CheckUpgrade to the same version: %v, %v", found, err)
	}
	finishes(t, u, l)
	srv.Stop()
	for range 2 {
		if err := u.Upgrade(ctx, l, "", ignore); err != nil {
			t.Errorf("Upgrade to the same version: %v", err)
		}
	}
	srv = Start(t, s)
	finishes(t, u, l)
	wantKept(t, s)
	if s.Newer == nil {
		srv.Stop()
		return
	}
	if found, err := u.CheckUpgrade(ctx, l, s.Newer.Name); err != nil || blocking(found) != "" {
		t.Errorf("CheckUpgrade to %s: %v, %v", s.Newer.Name, found, err)
	}
	srv.Stop()
	takeOver(t, s, u)
}

// takeOver upgrades to the newer version.
func takeOver(t *testing.T, s Setup, old engine.Upgrader) {
	t.Helper()
	ctx := t.Context()
	next := s
	next.Engine, next.Layout.Root = s.Newer.Engine, s.Newer.Root
	u, ok := next.Engine.(engine.Upgrader)
	if !ok {
		t.Fatal("the newer version is no Upgrader")
	}
	previous := s.Layout.Root
	if previous == "" {
		previous = "/"
	}
	must(t, next.Engine.Configure(ctx, next.Layout, engine.Settings{RAM: 512, VCPUs: 1}))
	for _, moment := range []time.Duration{0, 50 * time.Millisecond, 300 * time.Millisecond} { // the agent is killed
		cut, cancel := context.WithTimeout(ctx, moment)
		err := u.Upgrade(cut, next.Layout, previous, ignore)
		cancel()
		if _, said := errors.AsType[*trove.Error](err); said && trove.KindOf(err) == trove.KindBadRequest {
			t.Errorf("Upgrade that was cut off: %v", err)
		}
	}
	for range 2 {
		if err := u.Upgrade(ctx, next.Layout, previous, ignore); err != nil {
			t.Fatalf("Upgrade: %v", err)
		}
	}
	must(t, next.Engine.Configure(ctx, next.Layout, engine.Settings{RAM: 512, VCPUs: 1}))
	srv := Start(t, next)
	finishes(t, u, next.Layout)
	programs, _, err := u.Versions(ctx, next.Layout)
	must(t, err)
	wantVersions(t, "after the upgrade", u, next.Layout, programs)
	wantKept(t, next)
	srv.Stop()
	if err := u.Upgrade(ctx, next.Layout, previous, ignore); err != nil {
		t.Errorf("Upgrade of what is upgraded: %v", err)
	}
	wantKind(t, "Upgrade downwards", old.Upgrade(ctx, s.Layout, next.Layout.Root, ignore), trove.KindBadRequest)
	srv = Start(t, next)
	wantKept(t, next)
	srv.Stop()
}

func ignore(string, int) {}

// finishes calls FinishUpgrade twice: the second time there is nothing left to do.
func finishes(t *testing.T, u engine.Upgrader, l engine.Layout) {
	t.Helper()
	if _, err := u.FinishUpgrade(t.Context(), l, ignore); err != nil {
		t.Errorf("FinishUpgrade: %v", err)
	}
	if again, err := u.FinishUpgrade(t.Context(), l, ignore); err != nil || len(again) > 0 {
		t.Errorf("FinishUpgrade again did %q, %v", again, err)
	}
}

func wantVersions(t *testing.T, when string, u engine.Upgrader, l engine.Layout, want string) {
	t.Helper()
	programs, data, err := u.Versions(t.Context(), l)
	if err != nil || programs != want || data != want {
		t.Errorf("Versions() %s = %q, %q, %v, want %s twice", when, programs, data, err, want)
	}
}

// wantKept looks for what started made.
func wantKept(t *testing.T, s Setup) {
	t.Helper()
	if !s.Engine.Info().Capabilities.Databases {
		if got, err := s.Flat.Get(t.Context(), s.Layout, "alice", alicePassword, "kept"); err != nil || got != "42" {
			t.Errorf("what was written before is %q, %v", got, err)
		}
		return
	}
	wantDatabases(t, s, "keep")
	wantLogin(t, s, "alice", alicePassword, "keep", true)
}

// blocking returns the first finding that blocks.
func blocking(found []engine.Finding) string {
	for _, f := range found {
		if f.Blocks {
			return f.Sentence
		}
	}
	return ""
}
