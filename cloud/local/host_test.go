package local_test

import (
	"net/netip"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/local"
)

// TestHostStatus: what is promised, used and left follows instances as they are made, stopped and removed, and another process sees the same.
func TestHostStatus(t *testing.T) {
	d := deploy(t)
	ctx := t.Context()
	one, two := trove.NewID(), trove.NewID()
	d.create(t, one, 2)
	d.create(t, two, 1)
	status := func() cloud.Host {
		all, err := d.Hosts(ctx)
		if err != nil || len(all) != 1 {
			t.Fatalf("%+v, %v", all, err)
		}
		return all[0]
	}
	h := status()
	each := int64(local.DefaultFlavors()[0].RAM+local.AgentMiB) << 20
	if h.Name == "" || h.Running != 2 || h.Stopped != 0 || h.Loops != 2 || h.Memory.Promised != 2*each || h.Cores.Promised != 2 || h.Addresses.Used != 2 {
		t.Errorf("with two instances: %+v", h)
	}
	if h.Memory.Used <= 0 || h.Memory.Used > h.Memory.Promised || h.Memory.Left <= 0 || h.Memory.Total < h.Memory.Left || h.Cores.Total < 1 {
		t.Errorf("memory %+v, cores %+v", h.Memory, h.Cores)
	}
	if h.Volumes.Promised != 3<<30 || h.Volumes.Used < 3<<30 || h.Volumes.Total != 20<<30 || h.Volumes.Left <= 0 || !h.Pool.Reserved || h.Pool.Pending != 0 {
		t.Errorf("volumes %+v, %+v", h.Volumes, h.Pool)
	}
	if err := d.StopMachine(ctx, one); err != nil {
		t.Fatal(err)
	}
	if h = status(); h.Running != 1 || h.Stopped != 1 || h.Memory.Promised != each || h.Volumes.Promised != 3<<30 {
		t.Errorf("with one stopped: %+v", h)
	}
	catalog, err := local.OpenCatalog(d.config, func() (netip.Prefix, error) { return d.net.TenantSubnet(), nil })
	if err != nil {
		t.Fatal(err)
	}
	all, err := catalog.Hosts(ctx)
	if err != nil || len(all) != 1 || all[0].Running != 1 || all[0].Volumes.Promised != 3<<30 || all[0].Addresses != h.Addresses {
		t.Errorf("another process says %+v, %v; want %+v", all, err, h)
	}
	d.remove(t, one)
	if h = status(); h.Running != 1 || h.Stopped != 0 || h.Volumes.Promised != 1<<30 || h.Loops != 1 || h.Addresses.Used != 1 {
		t.Errorf("with one removed: %+v", h)
	}
}
