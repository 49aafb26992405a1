package sqlstore_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

func TestCommittedTellsOfCommitsAlone(t *testing.T) {
	s, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(t.TempDir(), "store.db"), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	told := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	first, again := s.Committed(), s.Committed()
	broken := errors.New("broken")
	if err := s.InTx(t.Context(), func(context.Context, store.Tx) error { return broken }); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if told(first) {
		t.Error("a transaction that was rolled back was told of")
	}
	if err := s.InTx(t.Context(), func(context.Context, store.Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if !told(first) || !told(again) {
		t.Error("a commit was not told of")
	}
	if told(s.Committed()) {
		t.Error("an old commit was told of")
	}
}
