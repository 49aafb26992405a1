package local_test

import (
	"errors"
	"net/netip"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/local"
)

func TestACatalogTellsAndMakesNothing(t *testing.T) {
	state := t.TempDir()
	unknown := errors.New("not there yet")
	var tenant netip.Prefix
	c, err := local.OpenCatalog(local.Config{State: state, Images: t.TempDir()}, func() (netip.Prefix, error) {
		if !tenant.IsValid() {
			return tenant, unknown
		}
		return tenant, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.TenantNetworks(t.Context(), cloud.Rights{Project: "p"}); !errors.Is(err, unknown) {
		t.Errorf("TenantNetworks before there is a network: %v", err)
	}
	tenant = netip.MustParsePrefix("10.1.0.0/20")
	networks, err := c.TenantNetworks(t.Context(), cloud.Rights{Project: "p"})
	if err != nil || len(networks) != 1 || !trove.ValidID(networks[0].ID) || len(networks[0].Subnets) != 1 {
		t.Fatalf("TenantNetworks: %+v, %v", networks, err)
	}
	want := []cloud.Subnet{{ID: networks[0].Subnets[0].ID, CIDR: "10.1.0.0/20"}}
	if diff := cmp.Diff(want, networks[0].Subnets); diff != "" {
		t.Error(diff)
	}
	flavors, err := c.Flavors(t.Context(), cloud.AsService())
	if diff := cmp.Diff(local.DefaultFlavors(), flavors); diff != "" || err != nil {
		t.Errorf("Flavors: %v\n%s", err, diff)
	}
	if f, err := c.Flavor(t.Context(), cloud.AsService(), "2"); err != nil || f.Name != "db.small" {
		t.Errorf("Flavor: %+v, %v", f, err)
	}
	if _, err := c.Flavor(t.Context(), cloud.AsService(), "none"); !trove.IsNotFound(err) {
		t.Errorf("Flavor of an unknown id: %v", err)
	}
	if err := c.ImageExists(t.Context(), trove.NewID()); !trove.IsNotFound(err) {
		t.Errorf("ImageExists: %v", err)
	}
	if types, err := c.VolumeTypes(t.Context(), cloud.AsService()); err != nil || len(types) != 1 {
		t.Errorf("VolumeTypes: %+v, %v", types, err)
	}
	if entries, err := os.ReadDir(state); err != nil || len(entries) > 0 {
		t.Errorf("the state directory has %v, %v", entries, err)
	}
	if _, err := local.OpenCatalog(local.Config{State: state + "/missing"}, nil); err == nil {
		t.Error("OpenCatalog of a state directory that is not there succeeded")
	}
}
