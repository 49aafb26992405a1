package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/identity/local"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
	"github.com/trove-dbaas/trove/store/storetest"
)

// fill writes something into every table.
func fill(t *testing.T, s *sqlstore.Store) {
	t.Helper()
	at := storetest.Start
	i := storetest.Instance("p")
	change(t, s, func(ctx context.Context, tx store.Tx) error {
		err := errors.Join(
			tx.PutDatastore(ctx, trove.Datastore{ID: "d", Name: "mariadb – ü"}),
			tx.PutDatastoreVersion(ctx, trove.DatastoreVersion{ID: "v", DatastoreID: "d", Name: "10.11", Active: true}),
			tx.TakeQuota(ctx, "p", map[string]int{trove.QuotaInstances: 1}), tx.SetQuota(ctx, "q", trove.QuotaVolumes, -1),
			tx.InsertInstance(ctx, i), tx.SetRootHistory(ctx, trove.RootHistory{InstanceID: i.ID, UserID: "u", Enabled: at}),
			tx.PutEnrolmentToken(ctx, i.ID, "hash", at.Add(time.Minute)),
			tx.RecordReports(ctx, []store.GuestReport{{InstanceID: i.ID, SeenAt: at, BootID: "1", Service: trove.ServiceHealthy}}),
			tx.EnqueueOperation(ctx, store.OperationRow{Operation: trove.Operation{ID: "o", Kind: "k", Target: i.ID, Created: at, Updated: at}, Input: []byte(`{"a":"'\\\n"}`)}),
			tx.AppendOperationLog(ctx, trove.OperationEvent{OperationID: "o", At: at, Step: "s", Outcome: "done", Sentence: strings.Repeat("long ", 20_000)}),
			tx.AppendInstanceEvent(ctx, trove.InstanceEvent{InstanceID: i.ID, At: at, Kind: "k", Sentence: "s"}),
			tx.PutReport(ctx, store.Report{OperationID: "o/s", InstanceID: i.ID, At: at, Result: []byte(`{}`)}),
		)
		return err
	})
	change(t, s, func(ctx context.Context, tx store.Tx) error {
		_, err := tx.BeginConfiguration(ctx, i.ID, at, at.Add(time.Minute))
		return errors.Join(err,
			tx.InsertConfiguration(ctx, trove.Configuration{ID: "g", ProjectID: "p", Name: "ü", DatastoreVersionID: "v", Created: at, Updated: at}),
			tx.PutParameter(ctx, "v", trove.Parameter{Name: "max", Type: "integer", Max: "18446744073709551615"}),
			tx.InsertBackup(ctx, trove.Backup{ID: "b", ProjectID: "p", InstanceID: i.ID, Name: "b", State: trove.BackupCompleted, Size: 0.1, Created: at, Updated: at}),
			tx.PutBackupStrategy(ctx, trove.BackupStrategy{ProjectID: "p", Backend: trove.BackendSwift, Container: "c", Created: at}),
			tx.PutKeptData(ctx, trove.KeptData{InstanceID: i.ID, DatastoreVersionID: "v", ImageID: "image", Since: at, Bytes: 1 << 40}),
			tx.InsertModule(ctx, trove.Module{ID: "m", ProjectID: "p", Name: "m", Type: "ping", Created: at, Updated: at}),
			tx.PutInstanceModule(ctx, trove.InstanceModule{InstanceID: i.ID, ModuleID: "m", Created: at, Updated: at}),
			tx.InsertCluster(ctx, trove.Cluster{ID: "c", ProjectID: "p", Name: "c", Created: at, Updated: at}),
			tx.ClaimIdempotentCall(ctx, store.IdempotentCall{}, store.IdempotentCall{ID: "i", Owner: "o", LeaseEnd: at, Expires: at, AnswerEnds: at}),
			tx.PutScrapeToken(ctx, store.ScrapeToken{InstanceID: i.ID, Hash: "h", UserID: "ü", Created: at}),
			tx.InsertAuthority(ctx, store.Authority{ID: "a", Certificate: "c", Cross: "x", SealedKey: "k", Made: at, Ends: at}, ""),
			tx.PutCertificate(ctx, store.Certificate{InstanceID: i.ID, AuthorityID: "a", Ends: at, TryAt: at}),
			tx.AppendAudit(ctx, trove.AuditRecord{ID: "a", ProjectID: "p", UserName: "ü", Roles: []string{"member"}, Method: "POST", Path: "/'"}),
		)
	})
	if err := errors.Join(
		s.AddRevokedKey(t.Context(), i.ID, "K", at, at), s.PutController(t.Context(), sqlstore.Controller{ID: "c", SeenAt: at, Objects: []string{"u"}, ClockAhead: -time.Second}),
		swapKey(t, s), claimCloud(t, s), claimName(t, s, at),
		s.PutIdentityUser(t.Context(), local.User{ID: "u", Name: "alice"}), s.PutIdentityProject(t.Context(), local.Project{ID: "p", Name: "zoo"}),
		s.GrantIdentityRole(t.Context(), "u", "p", "member"), s.PutIdentityToken(t.Context(), local.Token{Hash: "h", UserID: "u", Issued: at, Expires: at}),
	); err != nil {
		t.Fatal(err)
	}
}

func swapKey(t *testing.T, s *sqlstore.Store) error {
	_, err := s.SwapKeyMaterial(t.Context(), "bus.json", "", "sealed")
	return err
}

func claimCloud(t *testing.T, s *sqlstore.Store) error {
	_, err := s.ClaimCloud(t.Context(), "m", "host ü", false)
	return err
}

func claimName(t *testing.T, s *sqlstore.Store, at time.Time) error {
	_, err := s.Claim(t.Context(), "n", "me", at, at.Add(time.Hour))
	return err
}

// rowsOf returns all rows of a SQLite store by table.
func rowsOf(t *testing.T, path string) map[string][]string {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // it only read
	var tables []string
	each(t, db, `SELECT name FROM sqlite_master WHERE type='table' AND name NOT LIKE 'sqlite_%' AND name <> 'goose_db_version'`, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		tables = append(tables, name)
		return err
	})
	all := map[string][]string{}
	for _, table := range tables {
		each(t, db, `SELECT * FROM `+table, func(rows *sql.Rows) error {
			columns, err := rows.Columns()
			if err != nil {
				return err
			}
			values, dest := make([]any, len(columns)), make([]any, len(columns))
			for i := range values {
				dest[i] = &values[i]
			}
			err = rows.Scan(dest...)
			all[table] = append(all[table], fmt.Sprintf("%T %v", values, values))
			return err
		})
		if len(all[table]) == 0 {
			t.Errorf("nothing is in %s: fill it in the test", table)
		}
		slices.Sort(all[table])
	}
	return all
}

// TestAStoreMovesToAServerAndBack: every row of every table comes back as it was.
func TestAStoreMovesToAServerAndBack(t *testing.T) {
	onServers(t, func(t *testing.T, server *sqlstore.Server) {
		dir := t.TempDir()
		path, back := filepath.Join(dir, "store.db"), filepath.Join(dir, "back.db")
		fill(t, open(t, sqlstore.Config{Path: path}))
		want := rowsOf(t, path)
		n, err := sqlstore.Import(t.Context(), sqlstore.Config{Server: server}, path)
		if err != nil || n < len(want) {
			t.Fatalf("%d rows, %v", n, err)
		}
		s := open(t, sqlstore.Config{Server: server})
		if all, err := s.Instances(t.Context(), store.InstanceFilter{Limit: 5}); len(all) != 1 || err != nil {
			t.Errorf("%d instances are read there, %v", len(all), err)
		}
		if err := sqlstore.Export(t.Context(), sqlstore.Config{Server: server}, back); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, rowsOf(t, back)); d != "" {
			t.Error(d)
		}
		_, err = sqlstore.Import(t.Context(), sqlstore.Config{Server: server}, path)
		if trove.KindOf(err) != trove.KindConflict || !strings.Contains(err.Error(), "not empty") {
			t.Errorf("a second time: %v", err)
		}
		left, err := filepath.Glob(filepath.Join(dir, ".import-*"))
		if len(left) > 0 || err != nil {
			t.Errorf("left: %v, %v", left, err)
		}
	})
}

// TestAnExportIsAsOfOneMoment copies while pairs of rows are written.
func TestAnExportIsAsOfOneMoment(t *testing.T) {
	onServers(t, func(t *testing.T, server *sqlstore.Server) {
		s := open(t, sqlstore.Config{Server: server})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			for n := 0; ctx.Err() == nil; n++ {
				err := s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error { // one row in the first table that is copied, one in a later one
					if err := tx.PutDatastore(ctx, trove.Datastore{ID: fmt.Sprint(n), Name: fmt.Sprint(n)}); err != nil {
						return err
					}
					return tx.SetRootHistory(ctx, trove.RootHistory{InstanceID: fmt.Sprint(n)})
				})
				if err != nil {
					ended <- err
					return
				}
			}
			ended <- nil
		}()
		for range 5 {
			path := filepath.Join(t.TempDir(), "copy.db")
			if err := sqlstore.Export(t.Context(), sqlstore.Config{Server: server}, path); err != nil {
				t.Fatal(err)
			}
			db, err := sql.Open("sqlite", path)
			if err != nil {
				t.Fatal(err)
			}
			var a, b int
			err = db.QueryRowContext(t.Context(), `SELECT (SELECT COUNT(*) FROM datastore), (SELECT COUNT(*) FROM root_history)`).Scan(&a, &b)
			if err != nil || a != b {
				t.Errorf("%d and %d rows that were written together, %v", a, b, err)
			}
			_ = db.Close()
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
