package openstack_test

import (
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/openstack"
)

// libvirt refuses a hardware address that begins with 0xfe for an interface in a bridge.
func TestOneInstanceInSixtyFourNeverBoots(t *testing.T) {
	b := newBed(t)
	b.id = "0000000e-0000-4000-8000-000000000001" // its first port's address would begin with 0xfe
	if m := b.made(); m.State != cloud.MachineRunning {
		t.Errorf("it is %s: %s", m.State, m.Reason)
	}
	b.removed()
	for range 1000 {
		id := trove.NewID()
		if at := openstack.HardwareAddress(id, 0); strings.HasPrefix(at, "fe:") {
			t.Fatalf("the port of the instance %s has the address %s", id, at)
		}
	}
}
