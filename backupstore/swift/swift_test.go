package swift_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/backupstore/backupstoretest"
	"github.com/trove-dbaas/trove/backupstore/swift"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/openstacktest"
)

// small makes pieces of what is more than 1 KiB, so that a test's objects have many.
func small(cfg *swift.Config) { cfg.Small, cfg.Piece = 1<<10, 100_000 }

func open(t *testing.T, c *openstacktest.Cloud, change ...func(*swift.Config)) *swift.Store {
	t.Helper()
	cfg := swift.Config{Session: c.Session(t), Locks: &swift.Shared{Clock: clock.System{}}, Log: slog.New(slog.DiscardHandler)}
	for _, each := range change {
		each(&cfg)
	}
	s, err := swift.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func projects(cfg *swift.Config) { cfg.Projects = true }

func TestSuite(t *testing.T) {
	for name, change := range map[string][]func(*swift.Config){
		"service's account": nil, "pieces": {small}, "accounts of projects": {projects}, "pieces in accounts of projects": {projects, small},
	} {
		t.Run(name, func(t *testing.T) {
			backupstoretest.Run(t, func(t *testing.T) backupstoretest.Setup {
				c := openstacktest.New(t, "admin", "ResellerAdmin")
				return backupstoretest.Setup{
					Store: open(t, c, change...), Reopen: func(t *testing.T) backupstore.Store { return open(t, c, change...) },
				}
			})
		})
	}
}

const (
	tenant = "3d1c9a526c1e4a0c8f0e1b5d0b8a7c11"
	other  = "77777777777777777777777777777777"
)

var box = backupstore.Container{Project: tenant, Name: "database_logs"}

// newTenant is a cloud where the service has no rights on accounts but its own, and a user of the tenant.
func newTenant(t *testing.T) (*openstacktest.Cloud, context.Context) {
	t.Helper()
	c := openstacktest.New(t, "admin")
	c.Token("member's", openstacktest.Who{UserID: "alice", ProjectID: tenant, Roles: []string{"member"}})
	c.Token("reader's", openstacktest.Who{UserID: "bob", ProjectID: tenant, Roles: []string{"reader"}})
	return c, backupstore.WithCaller(t.Context(), "member's", tenant)
}

func put(ctx context.Context, s backupstore.Store, c backupstore.Container, name, text string) error {
	_, err := s.Put(ctx, c, name, strings.NewReader(text), backupstore.PutOptions{Size: int64(len(text)), IfAbsent: true, Meta: map[string]string{"lines": "1"}})
	return err
}

func TestTheServiceWritesWhereACallerLetIt(t *testing.T) {
	c, alice := newTenant(t)
	s := open(t, c, projects, small)
	large := strings.Repeat("x", 150_000)
	for _, text := range []string{"text\n", large} {
		if err := put(t.Context(), s, box, "i/log", text); trove.KindOf(err) != trove.KindForbidden {
			t.Errorf("before: %v, want forbidden", err)
		}
	}
	if all, err := s.List(t.Context(), box, backupstore.ListOptions{}); len(all) != 0 || err != nil {
		t.Errorf("before: listed %v, %v", all, err)
	}
	c.SetRights(tenant, "database_logs", "alice:x,.rlistings", "") // the project has this container already, with a right of its own
	for range 2 {
		if err := s.Prepare(alice, box); err != nil {
			t.Fatal(err)
		}
	}
	if err := put(t.Context(), s, box, "i/log", "text\n"); err != nil {
		t.Fatalf("with the right: %v", err)
	}
	if err := put(t.Context(), s, box, "large", large); err != nil {
		t.Fatalf("with the right, in pieces: %v", err)
	}
	if err := put(alice, s, box, "i/log", "text\n"); err != nil {
		t.Errorf("the caller writes the same: %v", err)
	}
	for who, ctx := range map[string]context.Context{"service": t.Context(), "caller": alice} {
		o, err := s.Stat(ctx, box, "i/log")
		if err != nil || o.Meta["lines"] != "1" {
			t.Errorf("the %s finds %+v, %v", who, o, err)
		}
	}
	if diff := cmp.Diff([]string{"i/log", "large"}, c.Objects(tenant, "database_logs", true)); diff != "" {
		t.Errorf("in the project's account (-want +got):\n%s", diff)
	}
	if n, err := s.RemoveAll(t.Context(), box, "i/"); n != 1 || err != nil {
		t.Errorf("the service removes %d, %v", n, err)
	}
	// What the project has let others do stays, and what it takes back is taken.
	c.SetRights(tenant, "database_logs", "", "")
	if err := put(t.Context(), s, box, "i/log", "text\n"); trove.KindOf(err) != trove.KindForbidden || !strings.Contains(trove.MessageOf(err), tenant) {
		t.Errorf("after the right was taken back: %v, want forbidden and whose it is", err)
	}
}

func TestACallersRightsAreHisOwn(t *testing.T) {
	c, alice := newTenant(t)
	s := open(t, c, projects)
	if err := s.Prepare(alice, box); err != nil {
		t.Fatal(err)
	}
	if err := put(alice, s, box, "secret", "of the tenant"); err != nil {
		t.Fatal(err)
	}
	c.Requests()
	bob := backupstore.WithCaller(t.Context(), "reader's", tenant)
	_, err := s.Stat(bob, box, "secret")
	if trove.KindOf(err) != trove.KindForbidden {
		t.Errorf("a caller without a role reads: %v", err)
	}
	if err := s.Prepare(bob, box); trove.KindOf(err) != trove.KindForbidden || !strings.Contains(trove.MessageOf(err), "role") {
		t.Errorf("a caller without a role makes a container: %v", err)
	}
	for _, r := range c.Requests() {
		if r.Who.UserID != "bob" {
			t.Errorf("%s %s was asked by %+v", r.Method, r.Path, r.Who)
		}
	}
	// A token of another project is not sent anywhere for this one.
	mallory := backupstore.WithCaller(t.Context(), "mallory's", other)
	if token := backupstore.Caller(mallory, tenant); token != "" {
		t.Error("a caller of another project is one of this")
	}
}

func TestLargeObjectsLeaveNothing(t *testing.T) {
	c := openstacktest.New(t, "admin")
	s := open(t, c, small)
	pieces := "p.backups.pieces"
	at := backupstore.Container{Project: "p", Name: "backups"}
	write := func(name, text string, want error) {
		t.Helper()
		_, err := s.Put(t.Context(), at, name, strings.NewReader(text), backupstore.PutOptions{Size: -1})
		if !errors.Is(err, want) {
			t.Fatalf("put %d bytes: %v, want %v", len(text), err, want)
		}
	}
	three := strings.Repeat("x", 250_000)
	write("a", three, nil)
	if got := c.Objects(openstacktest.ServiceProject, pieces, false); len(got) != 3 {
		t.Errorf("pieces %v, want three that stay", got)
	}
	write("a", strings.Repeat("y", 50_000), nil) // one piece: a copy
	if got := c.Objects(openstacktest.ServiceProject, pieces, false); len(got) != 0 {
		t.Errorf("pieces %v stay of an object that was replaced", got)
	}
	if got := c.Objects(openstacktest.ServiceProject, pieces, true); len(got) != 3 {
		t.Errorf("pieces %v are left for readers, want those of the first", got)
	}
	write("b", three, nil)
	if err := s.Remove(t.Context(), at, "b"); err != nil {
		t.Fatal(err)
	}
	if got := c.Objects(openstacktest.ServiceProject, pieces, false); len(got) != 0 {
		t.Errorf("pieces %v stay of an object that was removed", got)
	}
	before := len(c.Objects(openstacktest.ServiceProject, pieces, true))
	c.Quota(openstacktest.ServiceProject, 1)
	write("c", three, backupstore.ErrFull)
	if got := c.Objects(openstacktest.ServiceProject, pieces, true); len(got) != before {
		t.Errorf("pieces %v, want no more than before", got)
	}
}

func TestDamageIsAnError(t *testing.T) {
	c := openstacktest.New(t, "admin")
	s := open(t, c)
	at := backupstore.Container{Name: "backups"}
	if err := put(t.Context(), s, at, "x", "whole"); err != nil {
		t.Fatal(err)
	}
	c.Damage(openstacktest.ServiceProject, "backups", "x")
	body, _, err := s.Get(t.Context(), at, "x", backupstore.Range{})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if data, err := io.ReadAll(body); err == nil {
		t.Errorf("%q was read for what was stored as another text", data)
	}
}

func TestAFullStoreSaysSo(t *testing.T) {
	for name, fail := range map[string]func(*openstacktest.Cloud){
		"quota":   func(c *openstacktest.Cloud) { c.Quota(openstacktest.ServiceProject, 3) },
		"no room": func(c *openstacktest.Cloud) { c.FailNext("Swift", http.MethodPut, 507) },
	} {
		c := openstacktest.New(t, "admin")
		s, at := open(t, c), backupstore.Container{Name: "c"}
		if err := put(t.Context(), s, at, "first", "1"); err != nil {
			t.Fatal(err)
		}
		fail(c)
		err := put(t.Context(), s, at, "x", "text")
		if !errors.Is(err, backupstore.ErrFull) || trove.KindOf(err) != trove.KindUnavailable {
			t.Errorf("%s: %v, want ErrFull", name, err)
		}
	}
}

func TestASwiftThatIsAwayForAMomentCostsNothing(t *testing.T) {
	c := openstacktest.New(t, "admin")
	s := open(t, c)
	at := backupstore.Container{Name: "c"}
	if err := put(t.Context(), s, at, "first", "1"); err != nil {
		t.Fatal(err)
	}
	c.FailNext("Swift", http.MethodPut, 503, 502)
	c.FailNext("Swift", http.MethodHead, 503)
	if err := put(t.Context(), s, at, "x", "text"); err != nil {
		t.Errorf("put: %v", err)
	}
	c.Away("Swift", true)
	if err := put(t.Context(), s, at, "y", "text"); trove.KindOf(err) != trove.KindUnavailable {
		t.Errorf("put: %v, want unavailable", err)
	}
	if err := s.Check(t.Context()); trove.KindOf(err) != trove.KindUnavailable || !strings.Contains(trove.MessageOf(err), "Swift") {
		t.Errorf("check: %v, want unavailable and who it is", err)
	}
}
