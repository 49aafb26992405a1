package hostnet_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/local/hostnet"
)

func TestReadKnown(t *testing.T) {
	state := t.TempDir()
	if _, err := hostnet.ReadKnown(state); trove.KindOf(err) != trove.KindUnavailable {
		t.Errorf("ReadKnown before the first Open: %v, want Unavailable", err)
	}
	file := filepath.Join(state, "network.json")
	if err := os.WriteFile(file, []byte(`{"management":"10.1.0.0/20","tenant":"10.2.0.0/20"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := hostnet.ReadKnown(state)
	want := hostnet.Known{HostAddress: netip.MustParseAddr("10.1.0.1"), TenantSubnet: netip.MustParsePrefix("10.2.0.0/20")}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); err != nil || diff != "" {
		t.Errorf("ReadKnown: %v\n%s", err, diff)
	}
	if err := os.WriteFile(file, []byte(`{`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := hostnet.ReadKnown(state); err == nil {
		t.Errorf("ReadKnown of a damaged file: %+v", got)
	}
}
