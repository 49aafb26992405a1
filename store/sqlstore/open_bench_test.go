package sqlstore_test

import (
	"testing"

	"github.com/trove-dbaas/trove/store/sqlstore"
)

// BenchmarkOpen makes a new store with its schema; every test of the control plane does it.
func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		s, err := sqlstore.Open(b.Context(), sqlstore.Config{Path: b.TempDir() + "/store.db", NoSync: true})
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
