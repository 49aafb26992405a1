package openstack_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/openstack/openstacktest"
	"github.com/trove-dbaas/trove/internal/machinedata"
)

// fixedIP is an address of a port, with the subnet that it is of.
type fixedIP struct{ ip, cidr, gateway string }

// told makes a machine whose tenant's port has the addresses, and returns what the guest is told of that.
func (b *bed) told(addresses ...fixedIP) machinedata.Interface {
	b.Helper()
	return b.toldOf("0", b.machine(), addresses...).Interfaces[0]
}

// toldOf makes a machine whose port of the name's end has the addresses, and returns what the guest is told.
func (b *bed) toldOf(port string, spec cloud.MachineSpec, addresses ...fixedIP) machinedata.Data {
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
	b.c.Change("ports", "trove-"+b.id+"-"+port, func(o openstacktest.Object) { o["fixed_ips"] = fixed })
	_, err = b.p.EnsureVolume(b.Context(), b.volume(1))
	b.must(err)
	_, err = b.p.EnsureMachine(b.Context(), spec)
	b.must(err)
	raw, err := base64.StdEncoding.DecodeString(b.c.Objects("servers")[0]["user_data"].(string))
	b.must(err)
	d, err := machinedata.Parse(raw)
	b.must(err)
	return d
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

// TestAControllerIsLookedForByAGatewayOfTheOtherFamily: no guest takes such a route, so no machine could be made at all.
func TestAControllerIsLookedForByAGatewayOfTheOtherFamily(t *testing.T) {
	v4, v6 := fixedIP{"10.77.0.9", "10.77.0.0/24", "10.77.0.1"}, fixedIP{"2001:db8::9", "2001:db8::/64", "2001:db8::1"}
	by4, by6 := machinedata.Route{To: "192.0.2.7/32", Via: v4.gateway}, machinedata.Route{To: "2001:db8:7::7/128", Via: v6.gateway}
	for name, c := range map[string]struct {
		addresses []fixedIP
		want      []machinedata.Route
	}{
		"IPv4":              {[]fixedIP{v4}, []machinedata.Route{by4}},
		"IPv6":              {[]fixedIP{v6}, []machinedata.Route{by6}},
		"both":              {[]fixedIP{v4, v6}, []machinedata.Route{by4, by6}},
		"both, IPv6 first":  {[]fixedIP{v6, v4}, []machinedata.Route{by4, by6}},
		"without a gateway": {[]fixedIP{{"10.77.0.9", "10.77.0.0/24", ""}}, nil},
	} {
		b := newBed(t)
		s := b.machine()
		urls := `"https://192.0.2.7:4223/enrol","https://[2001:db8:7::7]:4223/enrol","https://10.77.0.1:4223/enrol"`
		s.BootData = []byte(strings.ReplaceAll(string(s.BootData), `"https://10.77.0.1:4223/enrol"`, urls))
		var got []machinedata.Route
		for _, i := range b.toldOf("management", s, c.addresses...).Interfaces {
			if i.Role == machinedata.RoleManagement {
				got = i.Routes
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
