package sqlstore_test

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

// TestFullDisk: on a full disk reads go on, writes are refused as something that may succeed later and change nothing, and with space again everything works without a
// new connection.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: a mount")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	s, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(dir, "store.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	put := func(name string) error {
		return s.InTx(t.Context(), func(ctx context.Context, tx store.Tx) error {
			return tx.PutDatastore(ctx, trove.Datastore{ID: trove.NewID(), Name: name + strings.Repeat("x", 4000)})
		})
	}
	if err := put("before"); err != nil {
		t.Fatal(err)
	}
	filler, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = filler.Write(make([]byte, 4096))
	}
	if err := filler.Close(); err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ { // what the log has room for still goes through
		if err = put("full"); err != nil {
			break
		}
		if n > 5000 {
			t.Fatal("the disk does not become full")
		}
	}
	if trove.KindOf(err) != trove.KindUnavailable || trove.IsPermanent(err) || !strings.Contains(trove.MessageOf(err), "full") {
		t.Errorf("a write on a full disk: %v", err)
	}
	before, err := s.Datastores(t.Context())
	if err != nil || len(before) == 0 {
		t.Fatalf("reading on a full disk: %d, %v", len(before), err)
	}
	if err := put("still"); trove.KindOf(err) != trove.KindUnavailable {
		t.Errorf("the second write: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
		t.Fatal(err)
	}
	if err := put("after"); err != nil {
		t.Errorf("with space again: %v", err)
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var sound string
	if err := db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&sound); err != nil || sound != "ok" {
		t.Errorf("the file is %q, %v", sound, err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	after, err := s.Datastores(t.Context())
	if err != nil || len(after) != len(before)+1 {
		t.Errorf("%d rows before, %d after: %v", len(before), len(after), err)
	}
}
