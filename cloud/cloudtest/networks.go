package cloudtest

import (
	"net/netip"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
)

func (s *suite) networkLife() {
	id, ctx := s.id(), s.Context()
	_, err := s.Provider.FindNetwork(ctx, id)
	s.gone(err, "FindNetwork before")

	first := s.network(s.networkSpec(id))
	if first.ID == "" || first.Instance != id || len(first.Addresses) == 0 {
		s.Fatalf("EnsureNetwork: %+v, want an id, instance %s and addresses", first, id)
	}
	for _, a := range first.Addresses {
		if _, err := netip.ParseAddr(a.Address); err != nil || a.Type != "private" && a.Type != "public" {
			s.Errorf("address %+v: want an IP address, private or public (%v)", a, err)
		}
	}
	if diff := cmp.Diff(first, s.network(s.networkSpec(id))); diff != "" {
		s.Errorf("EnsureNetwork again is another network (-first +second):\n%s", diff)
	}
	found, err := s.Provider.FindNetwork(ctx, id)
	s.must(err, "FindNetwork")
	if diff := cmp.Diff(first, found); diff != "" {
		s.Errorf("FindNetwork finds another network (-made +found):\n%s", diff)
	}
	for range 2 {
		s.ok(s.Provider.RemoveNetwork(ctx, id), "RemoveNetwork")
		_, err = s.Provider.FindNetwork(ctx, id)
		s.gone(err, "FindNetwork after")
	}
}

func (s *suite) networkAddresses() {
	owner := map[string]string{}
	for range 5 {
		id := s.id()
		for _, a := range s.network(s.networkSpec(id)).Addresses {
			if other, taken := owner[a.Address]; taken {
				s.Errorf("instances %s and %s both have the address %s", other, id, a.Address)
			}
			owner[a.Address] = id
		}
	}
}

func (s *suite) accessRules() {
	id := s.id()
	spec := s.networkSpec(id)
	first := s.network(spec)
	s.rulesAre(id, trove.Access{}, port)
	for _, cidrs := range [][]string{{"192.0.2.0/24"}, {"192.0.2.0/24", "198.51.100.7/32"}, {"198.51.100.7/32"}, nil} {
		spec.Access.AllowedCIDRs = cidrs
		if diff := cmp.Diff(first, s.network(spec)); diff != "" {
			s.Errorf("other access rules made another network (-first +second):\n%s", diff)
		}
		s.rulesAre(id, spec.Access, port)
	}
	spec.TCPPorts = []int{port, port + 1}
	s.network(spec)
	s.rulesAre(id, trove.Access{}, port, port+1)
}

func (s *suite) rulesAre(id string, want trove.Access, ports ...int) {
	s.Helper()
	if s.Rules == nil {
		return
	}
	access, open := s.Rules(s.T, id)
	if diff := cmp.Diff(want, access, cmpopts.EquateEmpty()); diff != "" {
		s.Errorf("access rules in force (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(ports, open); diff != "" {
		s.Errorf("open ports (-want +got):\n%s", diff)
	}
}

func (s *suite) badNetworks() {
	ctx := s.Context()
	for name, change := range map[string]func(*cloud.NetworkSpec){
		"a CIDR that is none":      func(n *cloud.NetworkSpec) { n.Access.AllowedCIDRs = []string{"10.0.0.0/8", "everybody"} },
		"a CIDR of 33 bits":        func(n *cloud.NetworkSpec) { n.Access.AllowedCIDRs = []string{"10.0.0.0/33"} },
		"port 0":                   func(n *cloud.NetworkSpec) { n.TCPPorts = []int{0} },
		"port 65536":               func(n *cloud.NetworkSpec) { n.TCPPorts = []int{65536} },
		"a network that is not":    func(n *cloud.NetworkSpec) { n.NICs = []trove.NIC{{NetworkID: trove.NewID()}} },
		"an address that is none":  func(n *cloud.NetworkSpec) { n.NICs = s.nic("here") },
		"an address not in subnet": func(n *cloud.NetworkSpec) { n.NICs = s.nic("203.0.113.9") },
	} {
		id := s.id()
		spec := s.networkSpec(id)
		change(&spec)
		_, err := s.Provider.EnsureNetwork(ctx, spec)
		s.refused(err, "EnsureNetwork with "+name, trove.KindBadRequest)
		_, err = s.Provider.FindNetwork(ctx, id)
		s.gone(err, "FindNetwork after "+name)
	}
}

// nic asks for an address in the tenant's first network.
func (s *suite) nic(address string) []trove.NIC {
	s.Helper()
	all, err := s.Provider.TenantNetworks(s.Context(), cloud.Rights{Project: s.Project})
	s.must(err, "TenantNetworks")
	if len(all) == 0 {
		s.Fatal("TenantNetworks: none, want at least one")
	}
	return []trove.NIC{{NetworkID: all[0].ID, IPAddress: address}}
}
