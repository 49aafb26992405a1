package bootstrap

import (
	"context"
	"errors"
	"net/netip"

	trove "github.com/trove-dbaas/trove"
)

// MakeNetwork makes the management network.
type MakeNetwork struct{ Network Network }

func (a MakeNetwork) apply(ctx context.Context, b *Bootstrap, ids *ids) error {
	if err := need(ids.project, PartProject); err != nil {
		return err
	}
	c, err := open(b.Services.Network)
	if err != nil {
		return err
	}
	n := a.Network
	n.ProjectID = ids.project
	var made struct {
		Network Network `json:"network"`
	}
	err = c.post(ctx, map[string]any{"network": n}, &made, "networks")
	ids.network, ids.mtu = made.Network.ID, made.Network.MTU
	return err
}

// ChangeNetwork makes a network be up, of one project, and with security groups.
type ChangeNetwork struct {
	ID       string
	Security bool // whether Neutron can switch security groups
}

func (a ChangeNetwork) apply(ctx context.Context, b *Bootstrap, _ *ids) error {
	c, err := open(b.Services.Network)
	if err != nil {
		return err
	}
	fields := map[string]any{"admin_state_up": true, "shared": false}
	if a.Security {
		fields["port_security_enabled"] = true
	}
	return c.put(ctx, map[string]any{"network": fields}, "networks", a.ID)
}

// MakeSubnet makes the subnet.
type MakeSubnet struct{ Subnet Subnet }

func (a MakeSubnet) apply(ctx context.Context, b *Bootstrap, ids *ids) error {
	if err := errors.Join(need(ids.network, PartNetwork), need(ids.project, PartProject)); err != nil {
		return err
	}
	c, err := open(b.Services.Network)
	if err != nil {
		return err
	}
	s := a.Subnet
	s.NetworkID, s.ProjectID = ids.network, ids.project // without the project its owner does not see it
	var made struct {
		Subnet Subnet `json:"subnet"`
	}
	err = c.post(ctx, map[string]any{"subnet": s}, &made, "subnets")
	ids.subnet = made.Subnet.ID
	return err
}

// ChangeSubnet takes a subnet's gateway and name servers away and sets its DHCP and routes.
type ChangeSubnet struct {
	ID     string
	DHCP   bool
	Routes []Route
}

func (a ChangeSubnet) apply(ctx context.Context, b *Bootstrap, _ *ids) error {
	c, err := open(b.Services.Network)
	if err != nil {
		return err
	}
	routes := a.Routes
	if routes == nil {
		routes = []Route{}
	}
	return c.put(ctx, map[string]any{"subnet": map[string]any{
		"gateway_ip": nil, "dns_nameservers": []string{}, "enable_dhcp": a.DHCP, "host_routes": routes,
	}}, "subnets", a.ID)
}

// MakeGroup makes a security group that has these rules and no others.
type MakeGroup struct{ Group Group }

func (a MakeGroup) apply(ctx context.Context, b *Bootstrap, ids *ids) error {
	if err := need(ids.project, PartProject); err != nil {
		return err
	}
	c, err := open(b.Services.Network)
	if err != nil {
		return err
	}
	var made struct {
		Group Group `json:"security_group"`
	}
	err = c.post(ctx, map[string]any{"security_group": map[string]any{
		"name": a.Group.Name, "description": a.Group.Description, "project_id": ids.project,
	}}, &made, "security-groups")
	if err != nil {
		return err
	}
	ids.groups[a.Group.Name] = made.Group.ID
	for _, r := range made.Group.Rules { // those that Neutron gives every group: everything out
		if err := c.delete(ctx, "security-group-rules", r.ID); err != nil {
			return err
		}
	}
	for _, r := range a.Group.Rules {
		if err := (AddRule{Group: a.Group.Name, Rule: r}).apply(ctx, b, ids); err != nil {
			return err
		}
	}
	return nil
}

// AddRule adds a rule to a security group.
type AddRule struct {
	Group string
	Rule  Rule
}

func (a AddRule) apply(ctx context.Context, b *Bootstrap, ids *ids) error {
	group := ids.groups[a.Group]
	if err := errors.Join(need(ids.project, PartProject), need(group, PartGroup)); err != nil {
		return err
	}
	c, err := open(b.Services.Network)
	if err != nil {
		return err
	}
	body := struct {
		Rule

		Group   string `json:"security_group_id"`
		Project string `json:"project_id"`
	}{a.Rule, group, ids.project}
	if body.RemoteGroup == "self" {
		body.RemoteGroup = group
	}
	err = c.post(ctx, map[string]any{"security_group_rule": body}, nil, "security-group-rules")
	if trove.KindOf(err) == trove.KindConflict {
		return nil // it is there: another run was faster
	}
	return err
}

// RemoveRule removes a rule of a security group.
type RemoveRule struct{ ID string }

func (a RemoveRule) apply(ctx context.Context, b *Bootstrap, _ *ids) error {
	c, err := open(b.Services.Network)
	if err != nil {
		return err
	}
	return c.delete(ctx, "security-group-rules", a.ID)
}

// MakePort makes the port of a controller, bound to its host.
type MakePort struct {
	Name    string
	Group   string
	Address netip.Addr
	Host    string
}

func (a MakePort) apply(ctx context.Context, b *Bootstrap, ids *ids) error {
	group := ids.groups[a.Group]
	if err := errors.Join(need(ids.project, PartProject), need(ids.network, PartNetwork), need(ids.subnet, PartSubnet), need(group, PartGroup)); err != nil {
		return err
	}
	c, err := open(b.Services.Network)
	if err != nil {
		return err
	}
	var made struct {
		Port Port `json:"port"`
	}
	err = c.post(ctx, map[string]any{"port": map[string]any{
		"name": a.Name, "description": Mark, "network_id": ids.network, "project_id": ids.project, "device_owner": ControllerOwner, "device_id": a.Host,
		"binding:host_id": a.Host, "security_groups": []string{group}, "fixed_ips": []FixedIP{{SubnetID: ids.subnet, Address: a.Address}},
	}}, &made, "ports")
	ids.ports[a.Name] = made.Port
	return err
}

// ChangePort binds a port to a host.
type ChangePort struct{ ID, Host string }

func (a ChangePort) apply(ctx context.Context, b *Bootstrap, _ *ids) error {
	c, err := open(b.Services.Network)
	if err != nil {
		return err
	}
	return c.put(ctx, map[string]any{"port": map[string]any{"binding:host_id": a.Host}}, "ports", a.ID)
}

// Plug makes the interface of a port on this host.
type Plug struct {
	Port, Interface, Agent string
	Bits                   int
}

func (a Plug) apply(ctx context.Context, b *Bootstrap, ids *ids) error {
	port := ids.ports[a.Port]
	if err := need(port.ID, PartPort); err != nil {
		return err
	}
	if len(port.Addresses) == 0 {
		return trove.Errorf(trove.KindConflict, "The port %s has no address.", port.Name)
	}
	return b.Host.Plug(ctx, a.Agent, a.Interface, port, ids.mtu, netip.PrefixFrom(port.Addresses[0].Address, a.Bits))
}

// Guard drops what comes into this host by the network's bridge.
type Guard struct{}

func (Guard) apply(ctx context.Context, b *Bootstrap, ids *ids) error {
	if err := need(ids.network, PartNetwork); err != nil {
		return err
	}
	return b.Host.Guard(ctx, bridgeName(ids.network))
}
