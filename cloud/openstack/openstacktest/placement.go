package openstacktest

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// hostKey is where Nova shows administrators the host of a server.
const hostKey = "OS-EXT-SRV-ATTR:host"

func (c *Cloud) placement() {
	c.handle("GET "+compute+"os-services", (*call).services)
	c.handle("GET "+compute+"os-server-groups", func(k *call) {
		all := append([]Object{}, k.sorted("groups")...)
		from, _ := strconv.Atoi(k.r.URL.Query().Get("offset"))
		k.answer(http.StatusOK, Object{"server_groups": all[min(from, len(all)):]})
	})
	c.handle("GET "+compute+"os-server-groups/{id}", func(k *call) { k.one("groups", "server_group") })
	c.handle("DELETE "+compute+"os-server-groups/{id}", func(k *call) { k.remove("groups") })
	c.handle("POST "+compute+"os-server-groups", (*call).makeGroup)
}

// hosts are where servers can be.
func (c *Cloud) hosts() []string {
	if len(c.knobs.Hosts) == 0 {
		return []string{"host1", "host2"}
	}
	return c.knobs.Hosts
}

func (k *call) services() {
	var all []Object
	for _, h := range append([]string{"controller"}, k.hosts()...) {
		o := Object{"host": h, "binary": "nova-compute", "status": "enabled", "state": "up", "zone": "nova"}
		if h == "controller" {
			o["binary"] = "nova-scheduler"
		}
		if slices.Contains(k.knobs.Disabled, h) {
			o["status"] = "disabled"
		}
		if k.matches(o) {
			all = append(all, o)
		}
	}
	k.answer(http.StatusOK, Object{"services": append([]Object{}, all...)})
}

// since reports whether the request asks for this microversion of Nova or a later one.
func (k *call) since(minor int) bool {
	_, version, _ := strings.Cut(k.r.Header.Get("OpenStack-API-Version"), " 2.")
	n, _ := strconv.Atoi(version)
	return n >= minor
}

func (k *call) makeGroup() {
	want, _ := k.body["server_group"].(Object)
	policy, _ := want["policy"].(string)
	switch {
	case !k.since(64) || !slices.Contains([]string{"affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity"}, policy):
		k.refuse(http.StatusBadRequest, "Invalid input for field/attribute server_group.")
	case k.knobs.ServerGroups > 0 && len(k.all["groups"]) >= k.knobs.ServerGroups:
		k.refuse(http.StatusForbidden, "Quota exceeded, too many server groups.")
	default:
		g := k.put("groups", newID(), Object{"name": want["name"], "policy": policy, "rules": Object{}, "members": []string{}, "project_id": k.project})
		k.answer(http.StatusOK, Object{"server_group": g})
	}
}

// hinted makes a new server a member of the group that its hints name, or says that there is none.
func (k *call) hinted() (group Object, ok bool) {
	hints, _ := k.body["os:scheduler_hints"].(Object)
	id, _ := hints["group"].(string)
	if id == "" {
		return nil, true
	}
	if group = k.all["groups"][id]; group == nil {
		k.refuse(http.StatusBadRequest, "Instance group %s could not be found.", id)
		return nil, false
	}
	return group, true
}

func (c *Cloud) groupOf(server string) Object {
	for _, g := range c.all["groups"] {
		if slices.Contains(g["members"].([]string), server) {
			return g
		}
	}
	return nil
}

// leave takes a deleted server from its group.
func (c *Cloud) leave(server string) {
	if g := c.groupOf(server); g != nil {
		g["members"] = slices.DeleteFunc(g["members"].([]string), func(m string) bool { return m == server })
	}
}

// place is the scheduler: it returns a host for a server, "" if there is none.
func (c *Cloud) place(server string, may func(host string) bool) string {
	used := map[any]bool{}
	g := c.groupOf(server)
	if g != nil {
		for _, m := range g["members"].([]string) {
			if s := c.all["servers"][m]; m != server && s != nil && s[hostKey] != nil {
				used[s[hostKey]] = true
			}
		}
	}
	for _, h := range c.hosts() {
		switch {
		case slices.Contains(c.knobs.Disabled, h) || !may(h):
		case g != nil && g["policy"] == "anti-affinity" && used[h]:
		case g != nil && g["policy"] == "affinity" && len(used) > 0 && !used[h]:
		default:
			return h
		}
	}
	return ""
}

// migrate moves a server to another host.
func (k *call) migrate(s Object, was string, args Object, begin func(task, did string, then func(Object))) {
	from, to := fmt.Sprint(s[hostKey]), ""
	if args != nil {
		to, _ = args["host"].(string)
	}
	switch {
	case to != "" && !k.since(56):
		k.refuse(http.StatusBadRequest, "Invalid input for field/attribute migrate.")
		return
	case to == from:
		k.refuse(http.StatusBadRequest, "Cannot migrate to the host (%s) that the server exists on.", to)
		return
	case to != "" && !slices.Contains(k.hosts(), to):
		k.refuse(http.StatusBadRequest, "Compute host %s could not be found.", to)
		return
	}
	c, id := k.Cloud, s["id"].(string)
	begin("resize_prep", "migrate", func(s Object) {
		host := c.place(id, func(h string) bool { return (h != from || c.knobs.SameHost) && (to == "" || h == to) })
		if host == "" || c.knobs.NoMigrate {
			all := c.actions[id]
			all[len(all)-1]["message"] = "Error"
			s["OS-EXT-STS:task_state"] = nil
			return
		}
		if was == "ACTIVE" {
			c.off(s)
		}
		s["old_host"], s["old_flavor"], s["old_status"], s[hostKey] = from, s["flavor"], was, host
		s["status"], s["OS-EXT-STS:task_state"] = "VERIFY_RESIZE", nil
		if was == "ACTIVE" {
			c.on(s)
		}
	})
}
