package openstack_test

import (
	"encoding/base64"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trove-dbaas/trove/cloud/openstack/openstacktest"
	"github.com/trove-dbaas/trove/internal/machinedata"
)

// fixedIP is an address of a port, with the subnet that it is of.
type fixedIP struct{ ip, cidr, gateway string }

// told makes a machine whose tenant's port has the addresses, and returns what the guest is told of that.
func (b *bed) told(addresses ...fixedIP) machinedata.Interface {
	b.Helper()
	_, err := b.p.EnsureNetwork(b.Context(), b.network())
	b.must(err)
	var fixed []openstacktest.Object
	for _, a := range addresses {
		id := b.c.Add("subnets", openstacktest.Object{
			"network_id": openstacktest.Network, "cidr": a.cidr, "gateway_ip": a.gateway, "dns_nameservers": []string{}, "host_routes": []openstacktest.Object{},
		})
		fixed = append(fixed, openstacktest.Object{"subnet_id": id, "ip_address": a.ip})
	}
	b.c.Change("ports", "trove-"+b.id+"-0", func(o openstacktest.Object) { o["fixed_ips"] = fixed })
	_, err = b.p.EnsureVolume(b.Context(), b.volume(1))
	b.must(err)
	_, err = b.p.EnsureMachine(b.Context(), b.machine())
	b.must(err)
	raw, err := base64.StdEncoding.DecodeString(b.c.Objects("servers")[0]["user_data"].(string))
	b.must(err)
	d, err := machinedata.Parse(raw)
	b.must(err)
	return d.Interfaces[0]
}

func TestACreateOnASubnetWhoseGatewayIsOutsideOfIt(t *testing.T) {
	for _, a := range []fixedIP{
		{"2001:db8::9", "2001:db8::/64", "fe80::1"},
		{"192.0.2.9", "192.0.2.8/29", "198.51.100.1"},
	} {
		got := newBed(t).told(a)
		if diff := cmp.Diff(a.gateway, got.Gateway); diff != "" {
			t.Errorf("the gateway (-want +got):\n%s", diff)
		}
	}
}

func TestATenantsPortOfBothFamiliesHasADefaultRouteOfEach(t *testing.T) {
	v4, v6 := fixedIP{"10.5.0.9", "10.5.0.0/24", "10.5.0.1"}, fixedIP{"2001:db8::9", "2001:db8::/64", "2001:db8::1"}
	second := fixedIP{"2001:db8:1::9", "2001:db8:1::/64", "2001:db8:1::1"} // one of each family is enough
	for _, order := range [][]fixedIP{{v4, v6, second}, {v6, v4}} {
		got := newBed(t).told(order...)
		if got.Gateway != v4.gateway || got.Gateway6 != v6.gateway {
			t.Errorf("addresses %v: the gateways are %q and %q", got.Addresses, got.Gateway, got.Gateway6)
		}
	}
	if got := newBed(t).told(v6); got.Gateway != v6.gateway || got.Gateway6 != "" {
		t.Errorf("of IPv6 alone: the gateways are %q and %q", got.Gateway, got.Gateway6)
	}
}
