package bootstrap_test

import (
	"net/netip"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/openstack/bootstrap"
	"github.com/trove-dbaas/trove/internal/imagelayout"
)

func wanted() bootstrap.Wanted {
	return bootstrap.Wanted{
		Region: "R", User: "trove", UserDomain: "Default", Project: "service", ProjectDomain: "Default", Role: "admin", PasswordFile: "/p",
		Network: "m", Group: "m", ControllerGroup: "m-controllers", Size: bootstrap.Size{Instances: 10, Controllers: 1}, Ports: []int{4222}, Host: "h",
		Endpoints: map[string]string{"public": "http://new/v1.0"}, ServiceName: "trove",
	}
}

func found() bootstrap.Found {
	secure := true
	return bootstrap.Found{
		ProjectDomainID: "d", UserDomainID: "d", Projects: []bootstrap.Named{{ID: "p"}}, Users: []bootstrap.Named{{ID: "u"}}, RoleID: "r", Granted: true,
		Password: bootstrap.PasswordGood,
		Networks: []bootstrap.Network{{ID: "n0000000-0000", Name: "m", Description: bootstrap.Mark, Up: true, Security: &secure, Type: "vlan", Physical: "physnet1", Segment: 77}},
		Subnets: []bootstrap.Subnet{{
			ID: "s", Name: "m-subnet", Description: bootstrap.Mark, CIDR: netip.MustParsePrefix("10.9.0.0/24"),
			Pools: []bootstrap.Pool{{Start: netip.MustParseAddr("10.9.0.20"), End: netip.MustParseAddr("10.9.0.250")}},
		}},
		Groups: []bootstrap.Group{{ID: "g", Name: "m", Description: bootstrap.Mark, Rules: []bootstrap.Rule{
			{ID: "1", Direction: "egress", EtherType: "IPv4", Protocol: "tcp", PortMin: 4222, PortMax: 4222, Remote: "10.9.0.2/32"},
		}}},
		Host:      bootstrap.HostNet{Addresses: []bootstrap.HostAddress{{Interface: "eth1", Prefix: netip.MustParsePrefix("10.9.0.2/24")}}},
		Quotas:    []bootstrap.Quota{{Service: "compute", Resource: "instances", Limit: -1}, {Service: "volume", Resource: "volumes", Limit: -1}, {Service: "network", Resource: "port", Limit: -1}},
		Services:  []bootstrap.Named{{ID: "svc", Name: "trove"}},
		Endpoints: []bootstrap.Endpoint{{ID: "e", Interface: "public", Region: "R", URL: "http://new/v1.0", Enabled: true}},
	}
}

func TestPlanOfWhatIsAsItShouldBeHasNothingToDo(t *testing.T) {
	steps, err := bootstrap.Plan(wanted(), found())
	if err != nil || len(steps) < 10 {
		t.Fatal(steps, err)
	}
	for _, s := range steps {
		if s.State != bootstrap.There || s.Action != nil {
			t.Errorf("%+v", s)
		}
	}
}

func TestQuotaHasRoomForASetOfReplicasInEachServerGroup(t *testing.T) {
	w := wanted()
	w.Size = bootstrap.Size{Instances: 100, Replicas: 2, Controllers: 3}
	want := map[string]int{"instances": 330, "server_groups": 130, "server_group_members": 3}
	for _, q := range w.Needs() {
		if n, ok := want[q.Resource]; ok && (q.Service != "compute" || q.Limit != n) {
			t.Errorf("%s of %s: %d, want %d", q.Resource, q.Service, q.Limit, n)
		}
		delete(want, q.Resource)
	}
	if len(want) > 0 {
		t.Errorf("not counted: %v", want)
	}
}

// Each deviation has one consequence, with a sentence that says why or what to do.
func TestPlanOfOneDeviation(t *testing.T) {
	type fixture struct {
		w bootstrap.Wanted
		f bootstrap.Found
	}
	strangers := func(x *fixture) {
		x.f.Networks[0].Description, x.f.Subnets[0].Description, x.f.Groups[0].Description = "", "", ""
	}
	address := netip.MustParseAddr
	elsewhere := func(x *fixture) { // a controller that is not in the subnet
		x.w.Controllers = []netip.Addr{address("192.0.2.7")}
		x.f.Groups[0].Rules[0].Remote = "192.0.2.7/32"
		x.f.Host.Addresses[0].Prefix = netip.MustParsePrefix("192.0.2.7/24")
	}
	for name, c := range map[string]struct {
		change func(x *fixture)
		part   bootstrap.Part
		state  bootstrap.State
		says   string
	}{
		"no such domain":            {func(x *fixture) { x.f.ProjectDomainID = "" }, bootstrap.PartProject, bootstrap.Refused, "no domain Default"},
		"no such role":              {func(x *fixture) { x.f.RoleID = "" }, bootstrap.PartRole, bootstrap.Refused, "no role admin"},
		"two networks":              {func(x *fixture) { x.f.Networks = append(x.f.Networks, x.f.Networks[0]) }, bootstrap.PartNetwork, bootstrap.Refused, "--network"},
		"another type":              {func(x *fixture) { x.w.NetworkType = "flat" }, bootstrap.PartNetwork, bootstrap.Refused, "vlan on physnet1 with segment 77, and flat is wanted"},
		"another segment":           {func(x *fixture) { x.w.NetworkType, x.w.Segment = "vlan", 78 }, bootstrap.PartNetwork, bootstrap.Refused, "segment 78"},
		"a stranger's open network": {func(x *fixture) { strangers(x); x.f.Networks[0].Shared = true }, bootstrap.PartNetwork, bootstrap.Yours, "every project can attach"},
		"too many instances":        {func(x *fixture) { x.w.Size.Instances = 250 }, bootstrap.PartSubnet, bootstrap.Refused, "gives out 231 addresses and 275 are needed: 250 guests, 25 of head-room"},
		"another range":             {func(x *fixture) { x.w.CIDR = netip.MustParsePrefix("10.8.0.0/24") }, bootstrap.PartSubnet, bootstrap.Refused, "10.9.0.0/24 and not 10.8.0.0/24"},
		"two subnets":               {func(x *fixture) { x.f.Subnets = append(x.f.Subnets, x.f.Subnets[0]) }, bootstrap.PartSubnet, bootstrap.Refused, "2 subnets"},
		"a stranger's gateway": {
			func(x *fixture) { strangers(x); gateway := "10.9.0.1"; x.f.Subnets[0].Gateway = &gateway },
			bootstrap.PartSubnet, bootstrap.Yours, "it was not made here and is left as it is: it has a gateway",
		},
		"a stranger's open group": {
			func(x *fixture) {
				strangers(x)
				x.f.Groups[0].Rules = append(x.f.Groups[0].Rules, bootstrap.Rule{ID: "2", Direction: "egress", EtherType: "IPv6"})
			},
			bootstrap.PartGroup, bootstrap.Yours, "to everywhere (IPv6)",
		},
		"a stranger's group without our rule": {
			func(x *fixture) { strangers(x); x.f.Groups[0].Rules = nil }, bootstrap.PartGroup, bootstrap.Change, "to 10.9.0.2/32 tcp 4222 was missing",
		},
		"a host without the address": {
			func(x *fixture) { x.f.Host.Addresses = nil; x.w.Controllers = []netip.Addr{address("10.9.0.2")} },
			bootstrap.PartInterface, bootstrap.Yours, "ip link add link INTERFACE name trove-m0 type vlan id 77",
		},
		"a host on a flat network without the address": {
			func(x *fixture) {
				x.f.Host.Addresses, x.w.Controllers = nil, []netip.Addr{address("10.9.0.2")}
				x.f.Networks[0].Type, x.f.Networks[0].Segment = "flat", 0
			},
			bootstrap.PartInterface, bootstrap.Yours, "ip addr add 10.9.0.2/24 dev INTERFACE",
		},
		"a host that is in a part of the subnet": {
			func(x *fixture) { x.f.Host.Addresses[0].Prefix = netip.MustParsePrefix("10.9.0.2/26") },
			bootstrap.PartInterface, bootstrap.Yours, "ip addr replace 10.9.0.2/24 dev eth1",
		},
		"a controller elsewhere": {elsewhere, bootstrap.PartInterface, bootstrap.Yours, "--via"},
		"a controller by a router that guests know": {
			func(x *fixture) {
				elsewhere(x)
				x.f.Subnets[0].Routes = []bootstrap.Route{{Destination: "192.0.2.7/32", NextHop: "10.9.0.1"}}
				x.f.Host.Routes = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24")}
			}, bootstrap.PartInterface, bootstrap.There, "a route to 10.9.0.0/24",
		},
		"a controller by a router":   {func(x *fixture) { elsewhere(x); x.w.Via = address("10.9.0.1") }, bootstrap.PartSubnet, bootstrap.Change, "no route to controllers"},
		"no agent for the interface": {func(x *fixture) { x.w.Interface = "trove-m0" }, bootstrap.PartPort, bootstrap.Refused, "no agent of Neutron"},
		"a port that is not bound": {
			func(x *fixture) {
				x.w.Interface, x.f.Agents = "eth1", []string{bootstrap.AgentOVS}
				x.f.Ports = []bootstrap.Port{{Name: "m-controllers-h", HostID: "h", VIF: "binding_failed"}}
			},
			bootstrap.PartPort, bootstrap.Yours, "could not bind",
		},
		"an interface of somebody else": {
			func(x *fixture) {
				x.w.Interface, x.w.Controllers, x.f.Agents = "eth1", []netip.Addr{address("10.9.0.3")}, []string{bootstrap.AgentOVS}
				x.f.Host.Addresses[0].Prefix = netip.MustParsePrefix("192.0.2.7/24")
			},
			bootstrap.PartInterface, bootstrap.Refused, "an interface of this name",
		},
		"no Cinder": {func(x *fixture) { x.f.Quotas = x.f.Quotas[:1] }, bootstrap.PartQuota, bootstrap.Yours, "no service of this type"},
		"a larger quota": {
			func(x *fixture) { x.f.Quotas[0].Limit = 17 }, bootstrap.PartQuota, bootstrap.Change, "instances from 17 to 18",
		},
		"an endpoint elsewhere": {func(x *fixture) { x.f.Endpoints[0].URL = "http://old/v1.0" }, bootstrap.PartEndpoint, bootstrap.Refused, "--replace-endpoints"},
		"an endpoint to replace": {
			func(x *fixture) { x.f.Endpoints[0].URL, x.w.ReplaceEndpoints = "http://old/v1.0", true },
			bootstrap.PartEndpoint, bootstrap.Change, "http://new/v1.0 in place of http://old/v1.0",
		},
		"an endpoint of another region": {func(x *fixture) { x.f.Endpoints[0].Region = "S" }, bootstrap.PartEndpoint, bootstrap.Make, "http://new/v1.0"},
		"two services":                  {func(x *fixture) { x.f.Services = append(x.f.Services, x.f.Services[0]) }, bootstrap.PartEndpoint, bootstrap.Refused, "2 services"},
		"no URL":                        {func(x *fixture) { x.w.Endpoints = nil }, bootstrap.PartEndpoint, bootstrap.Yours, "--public-url"},
		"a configuration that says something else": {
			func(x *fixture) {
				x.w.ConfigFile, x.f.Config = "/f", map[string]string{"cloud": "local"}
			}, bootstrap.PartConfig, bootstrap.Refused, `cloud is "local" and not "openstack"`,
		},
		"an upload that goes on": {
			func(x *fixture) {
				x.w.Images = []bootstrap.ImageFile{{Manifest: imagelayout.Manifest{ID: "i"}}}
				x.f.Images = []bootstrap.Image{{ID: "g", Trove: "i", Status: "saving"}}
			}, bootstrap.PartImage, bootstrap.Yours, "saving",
		},
		"a flavor of another size": {
			func(x *fixture) {
				x.w.Flavors = []bootstrap.Flavor{{Name: "f", RAM: 512, VCPUs: 1, Disk: 4}}
				x.f.Flavors = []bootstrap.Flavor{{ID: "1", Name: "f", RAM: 768, VCPUs: 1, Disk: 5, Public: true}}
			}, bootstrap.PartFlavor, bootstrap.There, "it stays as it is: 768 MiB",
		},
		"a private flavor": {
			func(x *fixture) {
				x.w.Flavors = []bootstrap.Flavor{{Name: "f", RAM: 512, VCPUs: 1, Disk: 4}}
				x.f.Flavors = []bootstrap.Flavor{{ID: "1", Name: "f", RAM: 512, VCPUs: 1, Disk: 4}}
			}, bootstrap.PartFlavor, bootstrap.Change, "may use it",
		},
	} {
		t.Run(name, func(t *testing.T) {
			x := &fixture{wanted(), found()}
			c.change(x)
			steps, err := bootstrap.Plan(x.w, x.f)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range steps {
				if s.Part == c.part && s.State == c.state && strings.Contains(s.Detail, c.says) {
					if (s.Action != nil) != (s.State == bootstrap.Make || s.State == bootstrap.Change) {
						t.Errorf("%+v", s)
					}
					return
				}
			}
			t.Errorf("no %s of %s that says %q in %+v", c.state, c.part, c.says, steps)
		})
	}
}

// With a refusal nothing is done at all, and all of them are named.
func TestRefusalsAreNamedTogether(t *testing.T) {
	w, f := wanted(), found()
	w.NetworkType, f.RoleID = "flat", ""
	steps, err := bootstrap.Plan(w, f)
	if err != nil {
		t.Fatal(err)
	}
	err = bootstrap.Refusals(steps)
	if trove.KindOf(err) != trove.KindConflict || !strings.Contains(err.Error(), "no role admin") || !strings.Contains(err.Error(), "flat is wanted") {
		t.Errorf("%v", err)
	}
}

func TestWhatCannotBeWantedIsRefusedBeforeAnybodyIsAsked(t *testing.T) {
	for name, change := range map[string]func(w *bootstrap.Wanted){
		"no instances":           func(w *bootstrap.Wanted) { w.Size.Instances = 0 },
		"a range that is small":  func(w *bootstrap.Wanted) { w.CIDR = netip.MustParsePrefix("10.0.0.0/29") },
		"a segment without type": func(w *bootstrap.Wanted) { w.Segment = 7 },
		"a flavor twice": func(w *bootstrap.Wanted) {
			w.Flavors = []bootstrap.Flavor{{Name: "a", RAM: 1, VCPUs: 1}, {Name: "a", RAM: 1, VCPUs: 1}}
		},
		"a controller of IPv6":    func(w *bootstrap.Wanted) { w.Controllers = []netip.Addr{netip.MustParseAddr("2001:db8::1")} },
		"a part that is not one":  func(w *bootstrap.Wanted) { w.Only = []bootstrap.Part{"everything"} },
		"a range that is not one": func(w *bootstrap.Wanted) { w.CIDR = netip.MustParsePrefix("10.0.0.7/24") },
	} {
		w := wanted()
		change(&w)
		if _, err := bootstrap.Plan(w, found()); trove.KindOf(err) != trove.KindBadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
}
