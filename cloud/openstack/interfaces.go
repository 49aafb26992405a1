package openstack

import (
	"context"
	"encoding/base64"
	"net/netip"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
	"github.com/trove-dbaas/trove/internal/machinedata"
)

// likeness is what a port that is made again shall have of the former one.
type likeness struct {
	mac   string
	fixed []fixedIP
}

type fixedIP struct{ subnet, address string }

// interfacesOf returns the interfaces that the guest of the instance's server was told of, none where there is no server. At each start the guest looks for their hardware
// addresses and sets the addresses that belong to them. Who owns a network may delete the ports in it, and what is made in their place has to be like them.
func (p *Provider) interfacesOf(ctx context.Context, instance string) ([]machinedata.Interface, error) {
	sv, err := p.server(ctx, instance)
	if err != nil {
		return nil, gone(err)
	}
	data, err := base64.StdEncoding.DecodeString(sv.UserData)
	if err != nil {
		data = nil // which is none of a guest
	}
	d, err := machinedata.Parse(data)
	if err != nil {
		p.cfg.Log.WarnContext(ctx, "user data of the server was not read, its ports may get other addresses", "instance", instance, "server", sv.ID, "err", err)
		return nil, nil
	}
	return d.Interfaces, nil
}

// formerOf returns the interface that a port which is not there had. Mostly the hardware address follows from the name; that of a port which was taken over from
// another Trove does not, and such an interface belongs to the first port that is missing.
func formerOf(instance, name string, told []machinedata.Interface, there []port) (machinedata.Interface, bool) {
	ours := map[string]bool{mac(managementPort(instance)): true}
	for n := range maxNICs {
		ours[mac(portName(instance, n))] = true
	}
	for i := range there {
		ours[there[i].MAC] = true
	}
	for _, f := range told {
		if f.MAC == mac(name) {
			return f, true
		}
	}
	for _, f := range told {
		if f.Role == machinedata.RoleUser && name != managementPort(instance) && !ours[f.MAC] {
			return f, true
		}
	}
	return machinedata.Interface{}, false
}

// makeAgain makes a port. One that the guest was told of gets the hardware address that it had, and the addresses that it had unless another port has them by now:
// then the guest learns the new ones only when the instance is rebuilt.
func (p *Provider) makeAgain(ctx context.Context, s cloud.NetworkSpec, name string, nic trove.NIC, group string, told []machinedata.Interface, there []port) (port, error) {
	former, ok := formerOf(s.Instance, name, told, there)
	if !ok {
		return p.makePort(ctx, s, name, nic, group, likeness{mac: mac(name)})
	}
	like := likeness{mac: former.MAC}
	var err error
	if like.fixed, err = p.fixedIn(ctx, nic.NetworkID, former.Addresses); err != nil {
		return port{}, err
	}
	made, err := p.makePort(ctx, s, name, nic, group, like)
	for range like.fixed {
		if !addressTaken(err) || nic.IPAddress != "" {
			break
		}
		p.cfg.Log.WarnContext(ctx, "former address of the port is another's, and the guest learns the new one when the instance is rebuilt", "instance", s.Instance, "port", name, "err", err)
		without(like.fixed, err)
		made, err = p.makePort(ctx, s, name, nic, group, like)
	}
	return made, err
}

// fixedIn returns those of addresses that a port in the network can be given. Some subnets give a port the address that follows from its hardware address, and no other.
func (p *Provider) fixedIn(ctx context.Context, network string, addresses []string) ([]fixedIP, error) {
	subnets, err := p.subnetsOf(ctx, network)
	if err != nil {
		return nil, err
	}
	var all []fixedIP
	for _, text := range addresses {
		address, err := netip.ParsePrefix(text)
		if err != nil {
			continue
		}
		at := slices.IndexFunc(subnets, func(s subnet) bool {
			prefix, err := netip.ParsePrefix(s.CIDR)
			return err == nil && prefix.Contains(address.Addr()) && s.Mode != "slaac" && s.Mode != "dhcpv6-stateless"
		})
		if at >= 0 {
			all = append(all, fixedIP{subnets[at].ID, address.Addr().String()})
		}
	}
	return all, nil
}

// without leaves it to Neutron to choose in place of an address that it has refused, or of all where it does not name one.
func without(fixed []fixedIP, refused error) {
	a, _ := osclient.AnswerOf(refused)
	named := func(f fixedIP) bool {
		return f.address != "" && a != nil && strings.Contains(" "+a.Message+" ", " "+f.address+" ")
	}
	all := !slices.ContainsFunc(fixed, named)
	for i := range fixed {
		if all || named(fixed[i]) {
			fixed[i].address = ""
		}
	}
}

// attachPorts attaches the ports of the instance that no server has: those that were made again.
func (p *Provider) attachPorts(ctx context.Context, sv *server, instance string) (attached bool, err error) {
	if sv.Task != "" || !slices.Contains([]string{"ACTIVE", "PAUSED", "SHUTOFF"}, sv.Status) {
		return false, nil // Nova would refuse it
	}
	ports, err := p.ports(ctx, instance)
	if err != nil {
		return false, err
	}
	for i := range ports {
		if ports[i].Device != "" {
			continue
		}
		err := gone(p.attachPort(ctx, sv.ID, ports[i].ID))
		if a, ok := osclient.AnswerOf(err); err != nil && (!ok || !strings.Contains(a.Message, "still in use")) { // another attaches it at this moment
			return attached, err
		}
		p.cfg.Log.InfoContext(ctx, "port that the server lacked was attached", "instance", instance, "server", sv.ID, "port", ports[i].ID)
		attached = true
	}
	return attached, nil
}
