package taskmanager_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/openstack/openstacktest"
)

// portGone deletes the port in the tenant's network, as the owner of the network may.
func (o *openStack) portGone() {
	o.t.Helper()
	for _, p := range o.c.Objects("ports") {
		if p["network_id"] == openstacktest.Network {
			o.c.Drop("ports", p["id"].(string))
		}
	}
}

// hasItsPorts checks that there are both ports, and that the server has them.
func (o *openStack) hasItsPorts() {
	o.t.Helper()
	if n := len(o.c.Objects("ports")); n != 2 {
		o.t.Errorf("there are %d ports", n)
	}
	for _, p := range o.c.Objects("ports") {
		if p["device_id"] != o.server()["id"] {
			o.t.Errorf("the server lacks the port %v", p)
		}
	}
}

// TestAPortThatItsTenantDeletedOrChangedIsPutRight: the owner of a network may do both with the ports in it.
func TestAPortThatItsTenantDeletedOrChangedIsPutRight(t *testing.T) {
	for name, kinds := range map[string][]string{"by stop and start": {trove.OpStop, trove.OpStart}, "by a reboot": {trove.OpReboot}, "by an upgrade and its way back": {trove.OpUpgrade, trove.OpUpgradeRollback}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOpenStack(t, time.Minute)
			o.well(trove.OpCreate)
			made, err := o.store.Instance(t.Context(), instanceID)
			if err != nil {
				t.Fatal(err)
			}
			port := func() openstacktest.Object {
				for _, p := range o.c.Objects("ports") {
					if p["name"] == "trove-"+instanceID+"-0" {
						return p
					}
				}
				return nil
			}
			was := port()
			right := func(kind string) {
				is := port()
				if is == nil || is["device_id"] != o.server()["id"] {
					t.Fatalf("after %s the server %v lacks the port %v", kind, o.server()["id"], is)
				}
				for _, key := range []string{"mac_address", "fixed_ips", "security_groups"} {
					if diff := cmp.Diff(was[key], is[key]); diff != "" {
						t.Errorf("%s after %s (-was +is):\n%s", key, kind, diff)
					}
				}
			}
			for _, harm := range []func(){
				func() { o.c.Drop("ports", port()["id"].(string)) },
				func() {
					o.c.Change("ports", "trove-"+instanceID+"-0", func(p openstacktest.Object) { p["security_groups"] = []any{"66666666-0000-4000-8000-000000000001"} })
				},
			} {
				for _, kind := range kinds {
					if kind != trove.OpStart {
						harm()
					}
					o.well(kind)
					if kind != trove.OpStop {
						right(kind)
					}
				}
				i, err := o.store.Instance(t.Context(), instanceID)
				if err != nil || !slices.Equal(i.Addresses, made.Addresses) {
					t.Errorf("the instance had %v and has %v, %v", made.Addresses, i.Addresses, err)
				}
			}
			o.well(trove.OpDelete)
			o.nothingLeft()
		})
	}
}

// TestARebootDoesNotWaitForANetworkThatIsGone: the tenant may have deleted the network with the port.
func TestARebootDoesNotWaitForANetworkThatIsGone(t *testing.T) {
	o := newOpenStack(t, time.Minute)
	o.well(trove.OpCreate)
	o.portGone()
	o.c.Drop("subnets", openstacktest.Subnet)
	o.c.Drop("networks", openstacktest.Network)
	o.well(trove.OpReboot)
	if s := o.server(); s["status"] != "ACTIVE" {
		t.Errorf("the server is %v", s)
	}
}

// TestARebuildMakesAPortThatIsGoneBeforeItTakesTheMachine: another machine could not be attached to anything.
func TestARebuildMakesAPortThatIsGoneBeforeItTakesTheMachine(t *testing.T) {
	o := newOpenStack(t, time.Minute)
	o.well(trove.OpCreate)
	o.portGone()
	o.well(trove.OpRebuild)
	o.hasItsPorts()
}

// TestARebootOfAMachineThatIsGoneMakesItsPortToo: whoever has removed the server may have removed the port.
func TestARebootOfAMachineThatIsGoneMakesItsPortToo(t *testing.T) {
	o := newOpenStack(t, time.Minute)
	o.well(trove.OpCreate)
	if err := o.p.RemoveMachine(t.Context(), instanceID); err != nil {
		t.Fatal(err)
	}
	o.portGone()
	o.well(trove.OpReboot)
	o.hasItsPorts()
}
