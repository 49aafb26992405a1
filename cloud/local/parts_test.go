package local_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/local"
)

func TestHostname(t *testing.T) {
	const id = "0d7f5a3e-52c1-4b7a-8a64-3c1d3f1c0001"
	for name, want := range map[string]string{
		"orders": "orders", "Orders DB": "orders-db", "-x-": "x", "a.b_c": "a-b-c", "": "trove-0d7f5a3e", "ордера": "trove-0d7f5a3e", "$(reboot)": "reboot",
		strings.Repeat("a", 62) + "-b": strings.Repeat("a", 62),
	} {
		if got := local.Hostname(name, id); got != want {
			t.Errorf("Hostname(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestIDsAreNeverShared(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: the machine's list of ranges in use")
	}
	owner := func() string { return filepath.Join("/nowhere", trove.NewID()) }
	owners := make([]string, 16)
	ids := make([]uint32, len(owners))
	var wg sync.WaitGroup
	for i := range owners {
		owners[i] = owner()
		t.Cleanup(func() {
			if err := local.ReleaseIDs(owners[i]); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			var err error
			if ids[i], err = local.ClaimIDs(owners[i]); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	seen := map[uint32]string{}
	for i, id := range ids {
		if other, taken := seen[id]; taken {
			t.Errorf("%s and %s both have the ids from %d", owners[i], other, id)
		}
		if id < local.FirstID || id%65536 != 0 {
			t.Errorf("ids from %d: want a multiple of 65536, from %d", id, local.FirstID)
		}
		seen[id] = owners[i]
		if again, err := local.ClaimIDs(owners[i]); err != nil || again != id {
			t.Errorf("claimed again: %d, %v; want %d", again, err, id)
		}
	}
}

func TestIDsOfOthersAreLeftAlone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "subuid")
	if err := os.WriteFile(file, []byte("# comment\nbuild:1879048192:65536\nbroken\nlow:100000:65536\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	spans, err := local.AssignedElsewhere(file, file+"-missing")
	if err != nil || len(spans) != 2 {
		t.Fatalf("got %v, %v; want two", spans, err)
	}
	if !spans[0].Overlaps(0) || spans[0].Overlaps(1) || spans[1].Overlaps(0) {
		t.Error("the first range, and it alone, is assigned to somebody")
	}
}
