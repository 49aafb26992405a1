package openstacktest

import (
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
)

func (c *Cloud) neutron() {
	at := "/network/v2.0/"
	for kind, key := range map[string]string{
		"networks": "networks", "subnets": "subnets", "ports": "ports", "security-groups": "security_groups", "floatingips": "floatingips",
	} {
		c.handle("GET "+at+kind, func(k *call) { k.list(kind, key) })
		c.handle("PUT "+at+kind+"/{id}/tags", func(k *call) {
			if o := k.find(kind); o != nil {
				o["tags"] = k.body["tags"]
				k.answer(http.StatusOK, Object{"tags": o["tags"]})
			}
		})
	}
	c.handle("GET "+at+"subnets/{id}", func(k *call) { k.one("subnets", "subnet") })
	c.handle("GET "+at+"agents", func(k *call) {
		k.answer(http.StatusOK, Object{"agents": []Object{{"id": newID(), "agent_type": "DHCP agent", "host": "n1", "alive": false}, {"id": newID(), "agent_type": "Open vSwitch agent", "host": "c7", "alive": false}}})
	})
	c.handle("POST "+at+"ports", (*call).makePort)
	c.handle("PUT "+at+"ports/{id}", (*call).changePort)
	c.handle("DELETE "+at+"ports/{id}", func(k *call) {
		k.leadNowhere(k.r.PathValue("id"))
		k.remove("ports")
	})
	c.handle("PUT "+at+"floatingips/{id}", func(k *call) {
		if o := k.find("floatingips"); o != nil {
			maps.Copy(o, k.body["floatingip"].(Object))
			k.answer(http.StatusOK, Object{"floatingip": o})
		}
	})
	c.handle("DELETE "+at+"floatingips/{id}", func(k *call) { k.remove("floatingips") })
	c.handle("DELETE "+at+"security-groups/{id}", func(k *call) {
		for _, p := range k.all["ports"] {
			if groups, _ := p["security_groups"].([]any); slices.Contains(groups, any(k.r.PathValue("id"))) {
				k.refuseNet(http.StatusConflict, "SecurityGroupInUse", "Security Group %s in use.", k.r.PathValue("id"))
				return
			}
		}
		k.remove("security-groups")
	})
	c.handle("POST "+at+"security-groups", func(k *call) {
		o := k.put("security-groups", newID(), merged(k.body["security_group"].(Object), Object{
			"project_id": k.project, "tags": []any{}, "security_group_rules": []Object{
				{"id": newID(), "direction": "egress", "ethertype": "IPv4"}, {"id": newID(), "direction": "egress", "ethertype": "IPv6"},
			},
		}))
		k.answer(http.StatusCreated, Object{"security_group": o})
	})
	c.handle("POST "+at+"security-group-rules", (*call).makeRule)
	c.handle("DELETE "+at+"security-group-rules/{id}", func(k *call) {
		for _, g := range k.all["security-groups"] {
			g["security_group_rules"] = slices.DeleteFunc(g["security_group_rules"].([]Object), func(o Object) bool { return o["id"] == k.r.PathValue("id") })
		}
		k.answer(http.StatusNoContent, nil)
	})
	c.handle("POST "+at+"floatingips", (*call).makeFloating)
}

func (k *call) makePort() {
	want := k.body["port"].(Object)
	network, _ := want["network_id"].(string)
	if k.all["networks"][network] == nil {
		k.refuseNet(http.StatusNotFound, "NetworkNotFound", "Network %s could not be found.", network)
		return
	}
	if k.knobs.Ports > 0 && len(k.all["ports"]) >= k.knobs.Ports {
		k.refuseNet(http.StatusConflict, "OverQuota", "Quota exceeded for resources: ['port'].")
		return
	}
	taken := map[string]bool{}
	for _, p := range k.all["ports"] {
		if p["network_id"] == network && p["mac_address"] == want["mac_address"] {
			k.refuseNet(http.StatusConflict, "MacAddressInUse", "Unable to complete operation for network %s. The mac address %v is in use.", network, want["mac_address"])
			return
		}
		for _, ip := range p["fixed_ips"].([]Object) {
			taken[fmt.Sprint(ip["ip_address"])] = true
		}
	}
	address := ""
	if fixed, ok := want["fixed_ips"].([]any); ok {
		address, _ = fixed[0].(Object)["ip_address"].(string)
	}
	if taken[address] {
		k.refuseNet(http.StatusConflict, "IpAddressAlreadyAllocated", "IP address %s already allocated in subnet %s", address, subnetOf(network))
		return
	}
	subnet := k.all["subnets"][subnetOf(network)]
	prefix := netip.MustParsePrefix(subnet["cidr"].(string))
	for ip := prefix.Addr().Next().Next(); address == ""; ip = ip.Next() {
		if !prefix.Contains(ip) {
			k.refuseNet(http.StatusConflict, "IpAddressGenerationFailure", "No more IP addresses available on network %s.", network)
			return
		}
		if !taken[ip.String()] {
			address = ip.String()
		}
	}
	p := k.put("ports", newID(), merged(want, Object{
		"project_id": k.project, "device_id": "", "tags": []any{}, "binding:vif_type": "unbound", "fixed_ips": []Object{{"subnet_id": subnet["id"], "ip_address": address}},
	}))
	k.answer(http.StatusCreated, Object{"port": p})
}

// leadNowhere is what becomes of the floating addresses of a port that goes. The caller holds the lock.
func (c *Cloud) leadNowhere(port string) {
	for _, f := range c.all["floatingips"] {
		if f["port_id"] == port {
			f["port_id"] = nil
		}
	}
}

func (k *call) changePort() {
	o := k.find("ports")
	if o == nil {
		return
	}
	want := k.body["port"].(Object)
	groups, _ := want["security_groups"].([]any)
	for _, id := range groups {
		switch {
		case k.all["security-groups"][fmt.Sprint(id)] == nil:
			k.refuseNet(http.StatusNotFound, "SecurityGroupNotFound", "Security group %v does not exist", id)
			return
		case o["port_security_enabled"] == false:
			k.refuseNet(http.StatusBadRequest, "PortSecurityAndIPRequiredForSecurityGroups", "Port security must be enabled and port must have an IP address in order to use security groups.")
			return
		}
	}
	maps.Copy(o, want)
	k.answer(http.StatusOK, Object{"port": o})
}

// makeRule makes a rule, or several: all of them or none.
func (k *call) makeRule() {
	wanted := []any{k.body["security_group_rule"]}
	several, bulk := k.body["security_group_rules"].([]any)
	if bulk {
		wanted = several
	}
	made := make([]Object, 0, len(wanted))
	for _, w := range wanted {
		want := w.(Object)
		g := k.all["security-groups"][fmt.Sprint(want["security_group_id"])]
		if g == nil {
			k.refuseNet(http.StatusNotFound, "SecurityGroupNotFound", "Security group %v does not exist", want["security_group_id"])
			return
		}
		if slices.ContainsFunc(slices.Concat(g["security_group_rules"].([]Object), made), func(r Object) bool { return sameRule(r, want) }) {
			k.refuseNet(http.StatusConflict, "SecurityGroupRuleExists", "Security group rule already exists.")
			return
		}
		made = append(made, merged(want, Object{"id": newID()}))
	}
	for _, r := range made {
		g := k.all["security-groups"][fmt.Sprint(r["security_group_id"])]
		g["security_group_rules"] = append(g["security_group_rules"].([]Object), r)
	}
	if bulk {
		k.answer(http.StatusCreated, Object{"security_group_rules": made})
		return
	}
	k.answer(http.StatusCreated, Object{"security_group_rule": made[0]})
}

func sameRule(a, b Object) bool {
	for _, key := range []string{"direction", "ethertype", "protocol", "port_range_min", "remote_ip_prefix"} {
		if a[key] != b[key] {
			return false
		}
	}
	return true
}

func (k *call) makeFloating() {
	want := k.body["floatingip"].(Object)
	if k.knobs.NoRouter {
		k.refuseNet(http.StatusNotFound, "ExternalGatewayForFloatingIPNotFound", "External network %v is not reachable from subnet.", want["floating_network_id"])
		return
	}
	o := k.put("floatingips", newID(), merged(want, Object{
		"project_id": k.project, "tags": []any{}, "floating_ip_address": fmt.Sprintf("172.24.4.%d", 10+len(k.all["floatingips"])),
	}))
	k.answer(http.StatusCreated, Object{"floatingip": o})
}
