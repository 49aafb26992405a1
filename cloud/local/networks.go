package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
)

// Net is what the provider needs of the host's network: a network namespace per instance, its address, and who reaches it.
type Net interface {
	EnsureInstance(ctx context.Context, s NetSpec) (NetInstance, error)
	// FindInstance returns the instance's attachment, NotFound if there is none.
	FindInstance(ctx context.Context, instance string) (NetInstance, error)
	RemoveInstance(ctx context.Context, instance string) error
	Instances(ctx context.Context) ([]NetInstance, error)
	// TenantSubnet is the range that instances have their addresses from.
	TenantSubnet() netip.Prefix
	Probe(ctx context.Context) error
	// Destroy removes everything of this deployment.
	Destroy(ctx context.Context) error
}

// NetSpec is what an instance's attachment shall be.
type NetSpec struct {
	Instance string
	Address  netip.Addr // the zero value: any free one
	Access   []netip.Prefix
	TCPPorts []int
	Public   bool // also reachable from outside of this machine
}

// NetInstance is an instance's attachment.
type NetInstance struct {
	Instance string
	Netns    string // path of its network namespace
	Address  netip.Addr
	Public   []NetPublic // where clients from outside connect to
}

// NetPublic is where clients from outside reach a port of the engine.
type NetPublic struct {
	Address netip.Addr
	Port    int
	Engine  int // the engine's own port
}

// EnsureNetwork is cloud.Networks.EnsureNetwork.
func (p *Provider) EnsureNetwork(ctx context.Context, s cloud.NetworkSpec) (cloud.Network, error) {
	spec, err := p.netSpec(s)
	if err != nil {
		return cloud.Network{}, err
	}
	unlock, err := p.paths.lock(ctx, s.Instance+".net")
	if err != nil {
		return cloud.Network{}, err
	}
	defer unlock(false)
	n, err := p.config.Net.EnsureInstance(ctx, spec)
	if err != nil {
		return cloud.Network{}, err
	}
	return p.network(n), nil
}

// netSpec checks and translates a specification.
func (p *Provider) netSpec(s cloud.NetworkSpec) (NetSpec, error) {
	if err := checkID(s.Instance); err != nil {
		return NetSpec{}, err
	}
	spec := NetSpec{Instance: s.Instance, TCPPorts: slices.Clone(s.TCPPorts), Public: s.Access.IsPublic}
	for _, text := range s.Access.AllowedCIDRs {
		prefix, err := parseRange(text)
		if err != nil {
			return NetSpec{}, bad("%q is not an address range in CIDR form.", text)
		}
		spec.Access = append(spec.Access, prefix)
	}
	for _, port := range s.TCPPorts {
		if port < 1 || port > 65535 {
			return NetSpec{}, bad("%d is not a TCP port.", port)
		}
	}
	if len(s.NICs) > 1 {
		return NetSpec{}, bad("The local cloud attaches an instance to one network; %d are asked for.", len(s.NICs))
	}
	for _, nic := range s.NICs {
		if nic.NetworkID != "" && nic.NetworkID != p.networkID() {
			return NetSpec{}, bad("Network %s cannot be found.", nic.NetworkID)
		}
		if nic.SubnetID != "" && nic.SubnetID != p.subnetID() {
			return NetSpec{}, bad("Subnet %s cannot be found.", nic.SubnetID)
		}
		if nic.IPAddress == "" {
			continue
		}
		address, err := netip.ParseAddr(nic.IPAddress)
		if err != nil || !p.config.Net.TenantSubnet().Contains(address) {
			return NetSpec{}, bad("%q is not an address of the network %s.", nic.IPAddress, p.config.Net.TenantSubnet())
		}
		spec.Address = address
	}
	return spec, nil
}

// parseRange reads an address range; an address alone stands for itself, as in Trove's access rules.
func parseRange(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(text)
}

func (p *Provider) network(n NetInstance) cloud.Network {
	addresses := []trove.Address{{Address: n.Address.String(), Type: "private", Network: p.networkID()}}
	for _, e := range n.Public {
		a := trove.Address{Address: e.Address.String(), Type: "public"}
		if e.Port != e.Engine {
			a.Port = e.Port
		}
		addresses = append(addresses, a)
	}
	return cloud.Network{ID: n.Instance, Instance: n.Instance, Ready: true, Addresses: addresses}
}

// PublicAccess is cloud.PublicAccess.PublicAccess.
func (p *Provider) PublicAccess(context.Context) error {
	if !p.config.Public {
		return bad("Instances cannot be public here: the operator has set neither local.public_ports nor local.public_cidrs.")
	}
	return nil
}

// FindNetwork is cloud.Networks.FindNetwork.
func (p *Provider) FindNetwork(ctx context.Context, instance string) (cloud.Network, error) {
	if err := checkID(instance); err != nil {
		return cloud.Network{}, err
	}
	n, err := p.config.Net.FindInstance(ctx, instance)
	if err != nil {
		return cloud.Network{}, err
	}
	return p.network(n), nil
}

// RemoveNetwork is cloud.Networks.RemoveNetwork.
func (p *Provider) RemoveNetwork(ctx context.Context, instance string) error {
	if err := checkID(instance); err != nil {
		return err
	}
	unlock, err := p.paths.lock(ctx, instance+".net")
	if err != nil {
		return err
	}
	defer unlock(true)
	return p.config.Net.RemoveInstance(ctx, instance)
}

// Networks is cloud.Networks.Networks.
func (p *Provider) Networks(ctx context.Context) ([]cloud.Network, error) {
	found, err := p.config.Net.Instances(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]cloud.Network, 0, len(found))
	for _, n := range found {
		all = append(all, p.network(n))
	}
	return all, nil
}

// TenantNetworks is cloud.Catalog.TenantNetworks: every project sees the same one.
func (p *Provider) TenantNetworks(context.Context, cloud.Rights) ([]cloud.TenantNetwork, error) {
	return []cloud.TenantNetwork{{
		ID: p.networkID(), Name: "local",
		Subnets: []cloud.Subnet{{ID: p.subnetID(), CIDR: p.config.Net.TenantSubnet().String()}},
	}}, nil
}

func (p *Provider) networkID() string { return derivedID(p.paths.state, "network") }
func (p *Provider) subnetID() string  { return derivedID(p.paths.state, "subnet") }

// derivedID makes a UUID (version 8: of one's own making) that is always the same for a deployment.
func derivedID(state, what string) string {
	b := sha256.Sum256([]byte(what + "\x00" + state))
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80
	s := hex.EncodeToString(b[:16])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

func bad(format string, args ...any) error {
	return trove.Permanent(trove.Errorf(trove.KindBadRequest, format, args...))
}

// checkID refuses what is no instance id before it becomes part of a path.
func checkID(instance string) error {
	if !trove.ValidID(instance) {
		return bad("%q is not the id of an instance.", instance)
	}
	return nil
}
