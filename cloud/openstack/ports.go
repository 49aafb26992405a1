package openstack

import (
	"context"
	"crypto/sha256"
	"net"
	"net/url"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
	"github.com/trove-dbaas/trove/internal/machinedata"
)

// vifFailed is what Neutron says of a port for which no agent works on the host.
const vifFailed = "binding_failed"

// port is a port as Neutron shows it.
type port struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Network     string   `json:"network_id"`
	Device      string   `json:"device_id"` // the server that has it, "" for none
	MAC         string   `json:"mac_address"`
	VIF         string   `json:"binding:vif_type"`
	Tags        []string `json:"tags"`
	Groups      []string `json:"security_groups"`
	Security    *bool    `json:"port_security_enabled"` // nil: Neutron has no such extension
	IPs         []struct {
		Subnet  string `json:"subnet_id"`
		Address string `json:"ip_address"`
	} `json:"fixed_ips"`
}

func (p *Provider) neutron(path ...string) request {
	return request{of: p.cfg.Session.Network, path: path}
}

// described is the description of everything that Neutron has of an instance. Unlike tags it is there from the first moment on, and it can be asked for.
func described(instance string) string { return keyInstance + "=" + instance }

func (p *Provider) ours(instance string) url.Values {
	return url.Values{"description": {described(instance)}, "project_id": {p.cfg.Session.ProjectID()}}
}

// ports returns the instance's ports in their order, the management port last.
func (p *Provider) ports(ctx context.Context, instance string) ([]port, error) {
	r := p.neutron("ports")
	r.query = p.ours(instance)
	all, err := list[port](ctx, r, "ports")
	slices.SortFunc(all, inOrder)
	return all, err
}

func inOrder(a, b port) int { return strings.Compare(a.Name, b.Name) }

func indexOf(ports []port, name string) int {
	return slices.IndexFunc(ports, func(p port) bool { return p.Name == name })
}

// mac is the hardware address of a port. It follows from the port's name, so that Neutron, where a network has an address once, lets one of two make the port.
// The first octet says that the address was chosen by its user; it is never 0xfe, which libvirt keeps for the host's end of an interface and refuses.
func mac(name string) string {
	sum := sha256.Sum256([]byte("trove port " + name))
	if sum[0] = sum[0]&0xfc | 0x02; sum[0] == 0xfe {
		sum[0] = 0xfa
	}
	return net.HardwareAddr(sum[:6]).String()
}

func (p *Provider) makePort(ctx context.Context, s cloud.NetworkSpec, name string, nic trove.NIC, group string, like likeness) (port, error) {
	o := object{
		"name": name, "network_id": nic.NetworkID, "mac_address": like.mac, "description": described(s.Instance), "security_groups": []string{group},
		"admin_state_up": true,
	}
	if len(like.fixed) == 0 && (nic.SubnetID != "" || nic.IPAddress != "") {
		like.fixed = []fixedIP{{nic.SubnetID, nic.IPAddress}}
	}
	if len(like.fixed) > 0 {
		o["fixed_ips"] = fixedIPs(like.fixed)
	}
	var body struct{ Port port }
	r := p.neutron("ports")
	r.body, r.into = object{"port": o}, &body
	if err := r.post(ctx); err != nil {
		return port{}, err
	}
	return body.Port, p.tagged(ctx, s, "ports", body.Port.ID, nil)
}

// fixedIPs are addresses as Neutron is asked for them; it chooses what is not said.
func fixedIPs(all []fixedIP) []object {
	out := make([]object, 0, len(all))
	for _, f := range all {
		o := object{}
		if f.subnet != "" {
			o["subnet_id"] = f.subnet
		}
		if f.address != "" {
			o["ip_address"] = f.address
		}
		out = append(out, o)
	}
	return out
}

// grouped gives a port of the tenant's network the instance's security group alone: of two groups of the name another may count now than when the port was made. The
// owner of the network may have switched groups off for it, and then it has none.
func (p *Provider) grouped(ctx context.Context, o *port, group string) error {
	if slices.Equal(o.Groups, []string{group}) || o.Security != nil && !*o.Security {
		return nil
	}
	r := p.neutron("ports", o.ID)
	r.body = object{"port": object{"security_groups": []string{group}}}
	return r.put(ctx)
}

// tagged gives a resource its tags where it lacks them.
func (p *Provider) tagged(ctx context.Context, s cloud.NetworkSpec, kind, id string, has []string) error {
	want := p.tags(s.Instance, s.Project)
	missing := slices.DeleteFunc(slices.Clone(want), func(t string) bool { return slices.Contains(has, t) })
	if len(missing) == 0 {
		return nil
	}
	r := p.neutron(kind, id, "tags")
	r.body = object{"tags": want}
	return r.put(ctx)
}

// ensureManagement makes the port on the management network and returns all.
func (p *Provider) ensureManagement(ctx context.Context, s cloud.NetworkSpec, told []machinedata.Interface, there []port) ([]port, error) {
	name := managementPort(s.Instance)
	if at := indexOf(there, name); at >= 0 {
		return there, p.tagged(ctx, s, "ports", there[at].ID, there[at].Tags)
	}
	n, err := p.network(ctx, p.cfg.ManagementNetwork, "", nil)
	if err != nil {
		return nil, notMade(err, "management network")
	}
	g, err := p.securityGroup(ctx, p.cfg.ManagementSecurityGroup)
	if err != nil {
		return nil, notMade(err, "security group of the management network")
	}
	made, err := p.makeAgain(ctx, s, name, trove.NIC{NetworkID: n.ID}, g, told, there)
	if a, ok := osclient.AnswerOf(err); ok && a.Type == "IpAddressGenerationFailure" {
		return nil, trove.Permanent(trove.Wrap(trove.KindOverLimit, err, "The management network %s has no address left: it needs another subnet.", p.cfg.ManagementNetwork))
	}
	return append(there, made), err
}

// notMade says what mends it that something of the deployment is not there. It can be mended while an operation waits.
func notMade(err error, what string) error {
	if !trove.IsNotFound(err) {
		return err
	}
	return trove.Wrap(trove.KindUnavailable, err, "The %s is not there: %s `trove openstack bootstrap` makes it.", what, trove.MessageOf(err))
}

// floatingIP is an address of the external network that leads to a port.
type floatingIP struct {
	ID          string   `json:"id"`
	Address     string   `json:"floating_ip_address"`
	Description string   `json:"description"`
	Port        string   `json:"port_id"` // "": it leads nowhere, as after its port was deleted
	Tags        []string `json:"tags"`
}

func (p *Provider) floating(ctx context.Context, instance string) ([]floatingIP, error) {
	r := p.neutron("floatingips")
	r.query = p.ours(instance)
	return list[floatingIP](ctx, r, "floatingips")
}

// ensureFloating gives the instance its public address, or takes it away.
func (p *Provider) ensureFloating(ctx context.Context, s cloud.NetworkSpec, ports []port) error {
	there, err := p.floating(ctx, s.Instance)
	if err != nil {
		return err
	}
	at := indexOf(ports, portName(s.Instance, 0))
	keep := 0
	if s.Access.IsPublic {
		keep = 1
	}
	for _, f := range there[min(keep, len(there)):] {
		if err := p.neutron("floatingips", f.ID).remove(ctx); err != nil {
			return err
		}
	}
	if !s.Access.IsPublic || at < 0 {
		return nil
	}
	if len(there) > 0 {
		if err := p.lead(ctx, &there[0], ports[at].ID); err != nil {
			return err
		}
		return p.tagged(ctx, s, "floatingips", there[0].ID, there[0].Tags)
	}
	n, err := p.network(ctx, p.cfg.PublicNetwork, "", url.Values{"router:external": {"true"}})
	if err != nil {
		return notMade(err, "public network")
	}
	var body struct {
		F floatingIP `json:"floatingip"`
	}
	r := p.neutron("floatingips")
	r.into = &body
	r.body = object{"floatingip": object{"floating_network_id": n.ID, "port_id": ports[at].ID, "description": described(s.Instance)}}
	if err := r.post(ctx); err != nil {
		return p.publicRefused(err)
	}
	return p.tagged(ctx, s, "floatingips", body.F.ID, nil)
}

// lead has a floating address lead to the port.
func (p *Provider) lead(ctx context.Context, f *floatingIP, port string) error {
	if f.Port == port {
		return nil
	}
	r := p.neutron("floatingips", f.ID)
	r.body = object{"floatingip": object{"port_id": port}}
	if err := r.put(ctx); err != nil {
		return p.publicRefused(err)
	}
	return nil
}

// publicRefused says what is wrong with a floating address that cannot lead to the port.
func (p *Provider) publicRefused(err error) error {
	if trove.IsNotFound(err) {
		return trove.Permanent(trove.Wrap(trove.KindBadRequest, err,
			"The network of the instance has no router to the public network %s: connect them, or make the instance without is_public.", p.cfg.PublicNetwork))
	}
	if clash(err) {
		return err
	}
	return asBad(err)
}
