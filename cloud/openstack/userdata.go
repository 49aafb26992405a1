package openstack

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/internal/machinedata"
)

// wiring is what a server is connected to, and how its guest is to use that.
type wiring struct {
	attached   []attachment // of the volume
	volume     string       // "" for an instance without one
	ports      []port
	interfaces []machinedata.Interface
	management []netip.Prefix // of its addresses in the management network
	gateways   []string       // out of the management network, for controllers that are not in it
}

// wiring finds the volume and the ports of a machine that is about to be made.
func (p *Provider) wiring(ctx context.Context, s cloud.MachineSpec) (wiring, error) {
	var w wiring
	v, err := p.volume(ctx, s.Instance)
	switch {
	case trove.IsNotFound(err):
		return w, bad("Instance %s has no volume that its machine could use.", s.Instance)
	case err != nil:
		return w, err
	case v.failed():
		return w, trove.Permanent(trove.Errorf(trove.KindInternal, "The volume failed: %s", p.whyVolume(ctx, &v)))
	case !v.ready():
		return w, trove.Errorf(trove.KindUnavailable, "The volume of the instance is not ready: Cinder says %s.", v.Status)
	}
	w.volume, w.attached = v.ID, v.Attachments
	if w.ports, err = p.ports(ctx, s.Instance); err != nil {
		return w, err
	}
	if len(w.ports) < 2 || indexOf(w.ports, managementPort(s.Instance)) < 0 {
		return w, bad("Instance %s has no network that its machine could be attached to.", s.Instance)
	}
	return w, p.plan(ctx, s.Instance, &w)
}

// plan makes the interfaces of the ports. One of each family has the default route, never the management port.
func (p *Provider) plan(ctx context.Context, instance string, w *wiring) error {
	routed := map[bool]bool{} // by whether it is IPv4: it has a default route
	for i := range w.ports {
		port := &w.ports[i]
		n, err := p.network(ctx, port.Network, "", nil)
		if err != nil {
			return err
		}
		f := machinedata.Interface{MAC: port.MAC, Role: machinedata.RoleUser, MTU: n.MTU}
		if port.Name == managementPort(instance) {
			f.Role = machinedata.RoleManagement
		}
		for _, ip := range port.IPs {
			sub, err := p.subnet(ctx, ip.Subnet)
			if err != nil {
				return err
			}
			if err := w.address(&f, ip.Address, sub, routed); err != nil {
				return err
			}
		}
		f.Nameservers = f.Nameservers[:min(len(f.Nameservers), maxNameservers)]
		w.interfaces = append(w.interfaces, f)
	}
	return nil
}

// maxNameservers is how many a resolver reads.
const maxNameservers = 3

// address gives an interface an address of a subnet, with what the subnet says of routes and names.
func (w *wiring) address(f *machinedata.Interface, address string, sub subnet, routed map[bool]bool) error {
	prefix, err := netip.ParsePrefix(sub.CIDR)
	if err != nil {
		return unreadable(err)
	}
	gateway := ""
	if sub.Gateway != nil {
		gateway = *sub.Gateway
	}
	f.Addresses = append(f.Addresses, fmt.Sprintf("%s/%d", address, prefix.Bits()))
	f.Routes = append(f.Routes, routes(sub, prefix)...)
	if f.Role == machinedata.RoleManagement {
		w.management = append(w.management, prefix)
		if gateway != "" {
			w.gateways = append(w.gateways, gateway)
		}
		return nil
	}
	f.Nameservers = append(f.Nameservers, sub.DNS...)
	is4 := prefix.Addr().Is4()
	if gateway == "" || routed[is4] {
		return nil
	}
	routed[is4] = true
	switch {
	case f.Gateway == "":
		f.Gateway = gateway
	case is4: // beside one of IPv6
		f.Gateway, f.Gateway6 = gateway, f.Gateway
	default:
		f.Gateway6 = gateway
	}
	return nil
}

// routes are the further routes of a subnet.
func routes(s subnet, on netip.Prefix) []machinedata.Route {
	var all []machinedata.Route
	for _, r := range s.Routes {
		to, err := netip.ParsePrefix(r.To)
		via, bad := netip.ParseAddr(r.Via)
		if err == nil && bad == nil && to.Bits() > 0 && on.Contains(via) {
			all = append(all, machinedata.Route{To: to.Masked().String(), Via: r.Via})
		}
	}
	return all
}

// userData is what the guest reads at its first boot. Controllers outside the management network are reached through its gateway.
func (p *Provider) userData(w wiring, boot []byte, previous string) ([]byte, error) {
	d := machinedata.Data{DataVolume: w.volume, PreviousVolume: previous, IsolateManagement: p.cfg.IsolateManagement, Interfaces: slices.Clone(w.interfaces)}
	if err := json.Unmarshal(boot, &d.Boot); err != nil {
		return nil, trove.Permanent(trove.Wrap(trove.KindInternal, err, "The boot data of the machine cannot be read."))
	}
	for i := range d.Interfaces {
		if f := &d.Interfaces[i]; f.Role == machinedata.RoleManagement {
			f.Routes = append(slices.Clone(f.Routes), controllerRoutes(d.Boot, w)...)
		}
	}
	data, err := machinedata.Encode(d)
	if err != nil {
		return nil, trove.Permanent(trove.Wrap(trove.KindInternal, err, "The data of the machine cannot be written."))
	}
	return data, nil
}

// controllerRoutes are the routes to controllers outside the management network. No other family is reached by a gateway than its own.
func controllerRoutes(b bus.BootData, w wiring) []machinedata.Route {
	var all []machinedata.Route
	for _, text := range b.EnrolURLs {
		u, err := url.Parse(text)
		if err != nil {
			continue
		}
		ip, err := netip.ParseAddr(u.Hostname())
		if err != nil || slices.ContainsFunc(w.management, func(p netip.Prefix) bool { return p.Contains(ip) }) {
			continue
		}
		n := slices.IndexFunc(w.gateways, func(text string) bool {
			via, err := netip.ParseAddr(text)
			return err == nil && via.Is4() == ip.Is4()
		})
		if n < 0 {
			continue
		}
		r := machinedata.Route{To: netip.PrefixFrom(ip, ip.BitLen()).String(), Via: w.gateways[n]}
		if !slices.Contains(all, r) {
			all = append(all, r)
		}
	}
	return all
}
