package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/identity/local"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/store/storetest"
)

func TestRevokedKeys(t *testing.T) {
	everywhere(t, func(t *testing.T, open func() *sqlstore.Store) {
		s, ctx := open(), t.Context()
		add := func(key string, at, expires time.Time) {
			t.Helper()
			if err := s.AddRevokedKey(ctx, "i", key, at, expires); err != nil {
				t.Fatal(err)
			}
		}
		add("b", start, start.Add(time.Hour))
		add("a", start, start.Add(2*time.Hour))
		add("a", start.Add(time.Minute), start.Add(3*time.Hour))
		add("a", start.Add(time.Minute), start.Add(time.Hour))
		check := func(want ...sqlstore.RevokedKey) {
			t.Helper()
			got, err := s.RevokedKeys(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		}
		a := sqlstore.RevokedKey{InstanceID: "i", PublicKey: "a", At: start, Expires: start.Add(3 * time.Hour)}
		b := sqlstore.RevokedKey{InstanceID: "i", PublicKey: "b", At: start, Expires: start.Add(time.Hour)}
		check(a, b)
		if err := s.PruneRevokedKeys(ctx, start.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		check(a, b)
		if err := s.PruneRevokedKeys(ctx, start.Add(time.Hour+time.Second)); err != nil {
			t.Fatal(err)
		}
		check(a)
	})
}

func TestIdentity(t *testing.T) {
	everywhere(t, func(t *testing.T, open func() *sqlstore.Store) {
		s, ctx := open(), t.Context()
		u := local.User{ID: "u1", Name: "alice", PasswordHash: "h", Enabled: true}
		p, q := local.Project{ID: "p1", Name: "zoo", Enabled: true}, local.Project{ID: "p2", Name: "ark"}
		tok := local.Token{Hash: "t", UserID: "u1", ProjectID: "p1", Issued: start, Expires: start.Add(time.Hour)}
		must := func(errs ...error) {
			t.Helper()
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
		}
		must(s.PutIdentityUser(ctx, local.User{ID: "u1", Name: "al"}), s.PutIdentityUser(ctx, u), s.PutIdentityProject(ctx, p), s.PutIdentityProject(ctx, q),
			s.GrantIdentityRole(ctx, "u1", "p1", "member"), s.GrantIdentityRole(ctx, "u1", "p1", "member"), s.GrantIdentityRole(ctx, "u1", "p1", "admin"),
			s.PutIdentityToken(ctx, tok), s.PutIdentityToken(ctx, tok))
		same := func(got, want any, err error) {
			t.Helper()
			if d := cmp.Diff(want, got); d != "" || err != nil {
				t.Error(d, err)
			}
		}
		for _, name := range []string{"u1", "alice"} {
			got, err := s.IdentityUser(ctx, name)
			same(got, u, err)
		}
		for _, name := range []string{"p1", "zoo"} {
			got, err := s.IdentityProject(ctx, name)
			same(got, p, err)
		}
		all, err := s.IdentityProjects(ctx, "")
		same(all, []local.Project{q, p}, err)
		mine, err := s.IdentityProjects(ctx, "u1")
		same(mine, []local.Project{p}, err)
		roles, err := s.IdentityRoles(ctx, "u1", "p1")
		same(roles, []string{"admin", "member"}, err)
		roles, err = s.IdentityRoles(ctx, "u1", "p2")
		same(roles, []string(nil), err)
		got, err := s.IdentityToken(ctx, "t")
		same(got, tok, err)

		must(s.PruneIdentityTokens(ctx, start.Add(time.Hour)))
		_, err = s.IdentityToken(ctx, "t")
		must(err)
		must(s.PruneIdentityTokens(ctx, start.Add(time.Hour+time.Second)))
		_, gone := s.IdentityToken(ctx, "t")
		must(s.PutIdentityToken(ctx, tok), s.DeleteIdentityToken(ctx, "t"), s.DeleteIdentityToken(ctx, "t"))
		_, deleted := s.IdentityToken(ctx, "t")
		_, nobody := s.IdentityUser(ctx, "bob")
		_, nowhere := s.IdentityProject(ctx, "moon")
		for n, err := range []error{gone, deleted, nobody, nowhere} {
			if !trove.IsNotFound(err) {
				t.Errorf("case %d: got %v, want not found", n, err)
			}
		}
	})
}

func TestRebind(t *testing.T) {
	if d := cmp.Diff("UPDATE a SET b=$1, c=c+$2 WHERE d=$3", sqlstore.Rebind("UPDATE a SET b=?, c=c+? WHERE d=?")); d != "" {
		t.Error(d)
	}
}

// TestBusyIsAConflict meets the error that a second process causes.
func TestBusyIsAConflict(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, sqlstore.Config{Path: path})
	other, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	err = s.InTx(t.Context(), func(ctx context.Context, _ store.Tx) error {
		_, err := other.ExecContext(ctx, `DELETE FROM quota`)
		if !sqlstore.Conflict(err) {
			t.Errorf("a locked database is no conflict: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.ExecContext(t.Context(), `DELETE FROM nothing`); err == nil || sqlstore.Conflict(err) {
		t.Errorf("a missing table is a conflict: %v", err)
	}
}

func TestControllersAndWhatGuestsWereTold(t *testing.T) {
	everywhere(t, func(t *testing.T, open func() *sqlstore.Store) {
		s := open()
		at := storetest.Start
		b := sqlstore.Controller{ID: "b", RouteURL: "tls://192.0.2.2:4224", Clients: []string{"192.0.2.2:4222"}, Enrol: []string{"https://192.0.2.2:4223"}, SeenAt: at}
		a := sqlstore.Controller{ID: "a", Clients: []string{"192.0.2.1:4222", "[2001:db8::1]:4222"}, Enrol: []string{"https://192.0.2.1:4223"}, SeenAt: at}
		for _, c := range []sqlstore.Controller{{ID: "b"}, a, b} {
			if err := s.PutController(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		got, err := s.Controllers(t.Context())
		if diff := cmp.Diff([]sqlstore.Controller{a, b}, got); diff != "" || err != nil {
			t.Error(diff, err)
		}
		enrolled, other := storetest.Instance("p"), storetest.Instance("p")
		if err := s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
			err := errors.Join(tx.InsertInstance(ctx, enrolled), tx.InsertInstance(ctx, other), tx.PutEnrolmentToken(ctx, enrolled.ID, "hash", at.Add(time.Minute)))
			if err == nil {
				_, err = tx.UseEnrolmentToken(ctx, "hash", "KEY", at)
			}
			return errors.Join(err, tx.SetGuestTrust(ctx, enrolled.ID, "told"),
				tx.RecordReports(ctx, []store.GuestReport{{InstanceID: enrolled.ID, SeenAt: at, BootID: "1", Service: trove.ServiceHealthy}}))
		}); err != nil {
			t.Fatal(err)
		}
		told, err := s.GuestTrusts(t.Context())
		if diff := cmp.Diff([]sqlstore.GuestTrust{{InstanceID: enrolled.ID, Trust: "told", SeenAt: at}}, told); diff != "" || err != nil {
			t.Error(diff, err)
		}
		if err := s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error { return tx.DeleteInstance(ctx, enrolled.ID, at) }); err != nil {
			t.Fatal(err)
		}
		if told, err := s.GuestTrusts(t.Context()); err != nil || len(told) != 0 {
			t.Errorf("a deleted instance: %+v, %v", told, err)
		}
	})
}

// TestAConflictRunsTheTransactionAgain makes the first two runs fail as another process would.
func TestAConflictRunsTheTransactionAgain(t *testing.T) {
	s, busy := open(t, sqlstore.Config{}), busyError(t)
	runs := 0
	err := s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
		if err := tx.TakeQuota(ctx, "p", map[string]int{trove.QuotaBackups: 1}); err != nil {
			return err
		}
		if runs++; runs < 3 {
			return busy
		}
		return nil
	})
	if err != nil || runs != 3 {
		t.Errorf("%d runs, %v", runs, err)
	}
	qs, err := s.Quotas(t.Context(), "p")
	if err != nil || qs[0].InUse != 1 {
		t.Errorf("got %+v, %v: each run must be rolled back", qs, err)
	}
}

// busyError returns a real SQLITE_BUSY.
func busyError(t *testing.T) error {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "busy.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	var conns []*sql.Conn
	for range 2 {
		c, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		conns = append(conns, c)
	}
	if _, err := conns[0].ExecContext(t.Context(), `BEGIN EXCLUSIVE`); err != nil {
		t.Fatal(err)
	}
	_, busy := conns[1].ExecContext(t.Context(), `BEGIN IMMEDIATE`)
	if busy == nil {
		t.Fatal("the second writer got in")
	}
	return busy
}
