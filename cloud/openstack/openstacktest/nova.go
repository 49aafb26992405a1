package openstacktest

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

const compute = "/compute/v2.1/"

func (c *Cloud) nova() {
	c.handle("GET "+compute+"flavors/detail", func(k *call) { k.list("flavors", "flavors") })
	c.handle("GET "+compute+"flavors/{id}", func(k *call) { k.one("flavors", "flavor") })
	c.handle("GET "+compute+"servers", func(k *call) { k.list("servers", "servers", "id", "name", "links") })
	c.handle("GET "+compute+"servers/detail", func(k *call) { k.list("servers", "servers") })
	c.handle("GET "+compute+"servers/{id}", func(k *call) { k.one("servers", "server") })
	c.handle("POST "+compute+"servers", (*call).makeServer)
	c.handle("DELETE "+compute+"servers/{id}", (*call).removeServer)
	c.handle("POST "+compute+"servers/{id}/action", (*call).act)
	c.handle("GET "+compute+"servers/{id}/os-instance-actions", func(k *call) {
		all := slices.Clone(k.actions[k.r.PathValue("id")])
		slices.Reverse(all)
		k.answer(http.StatusOK, Object{"instanceActions": all})
	})
	c.handle("POST "+compute+"servers/{id}/metadata", func(k *call) {
		if s := k.find("servers"); s != nil {
			s["metadata"] = merged(s["metadata"].(Object), k.body["metadata"].(Object))
			k.answer(http.StatusOK, Object{"metadata": s["metadata"]})
		}
	})
	c.handle("DELETE "+compute+"servers/{id}/metadata/{key}", func(k *call) {
		if s := k.find("servers"); s != nil {
			delete(s["metadata"].(Object), k.r.PathValue("key"))
			k.answer(http.StatusNoContent, nil)
		}
	})
	c.handle("POST "+compute+"servers/{id}/os-volume_attachments", func(k *call) {
		s := k.find("servers")
		if s == nil {
			return
		}
		id := k.body["volumeAttachment"].(Object)["volumeId"].(string)
		if k.take(id, s["id"].(string)) {
			k.attach(s, id)
			k.answer(http.StatusOK, Object{"volumeAttachment": Object{"volumeId": id}})
		}
	})
	c.handle("DELETE "+compute+"servers/{id}/os-volume_attachments/{volume}", func(k *call) {
		if s := k.find("servers"); s != nil {
			k.letGo(s, k.r.PathValue("volume"))
			k.answer(http.StatusAccepted, nil)
		}
	})
	c.handle("POST "+compute+"servers/{id}/os-interface", (*call).attachPort)
}

// attachPort gives a server a port that has none. Nova does that while the server runs or is stopped.
func (k *call) attachPort() {
	s := k.find("servers")
	if s == nil {
		return
	}
	id := fmt.Sprint(k.body["interfaceAttachment"].(Object)["port_id"])
	status := fmt.Sprint(s["status"])
	switch p := k.all["ports"][id]; {
	case s["OS-EXT-STS:task_state"] != nil, !slices.Contains([]string{"ACTIVE", "PAUSED", "SHUTOFF"}, status):
		k.refuse(http.StatusConflict, "Cannot 'attach_interface' instance %s while it is in vm_state %s", s["id"], strings.ToLower(status))
	case p == nil:
		k.refuse(http.StatusNotFound, "Port id %s could not be found.", id)
	case p["device_id"] != "":
		k.refuse(http.StatusBadRequest, "Port %s is still in use.", id)
	default:
		p["device_id"], p["binding:vif_type"] = s["id"], "bridge"
		k.did(s["id"].(string), "attach_interface")
		k.answer(http.StatusOK, Object{"interfaceAttachment": Object{"port_id": id}})
	}
}

// userDataKey is where administrators see the user data of a server.
const userDataKey = "OS-EXT-SRV-ATTR:user_data"

const volumesAttached = "os-extended-volumes:volumes_attached"

// take reserves a volume for a server, or says as Nova does that somebody else has it.
func (k *call) take(volume, server string) bool {
	v := k.all["volumes"][volume]
	if v == nil || v["status"] != "available" {
		k.refuse(http.StatusBadRequest, "Invalid volume: Volume %s status must be available or downloading to reserve, but the current status is not.", volume)
		return false
	}
	v["status"] = "reserved"
	k.put("attachments", newID(), Object{"volume_id": volume, "instance": server, "status": "reserved", "project_id": k.project})
	return true
}

func (c *Cloud) attach(server Object, volume string) {
	v := c.all["volumes"][volume]
	v["status"] = "in-use"
	for id, a := range c.all["attachments"] {
		if a["volume_id"] == volume && a["instance"] == server["id"] {
			a["status"] = "attached"
			v["attachments"] = []Object{{"server_id": server["id"], "attachment_id": id}}
		}
	}
	server[volumesAttached] = append(server[volumesAttached].([]Object), Object{"id": volume})
}

func (c *Cloud) letGo(server Object, volume string) {
	if v := c.all["volumes"][volume]; v != nil {
		v["status"], v["attachments"] = "available", []Object{}
	}
	c.endAttachments(volume, server["id"])
	server[volumesAttached] = slices.DeleteFunc(server[volumesAttached].([]Object), func(o Object) bool { return o["id"] == volume })
}

// endAttachments forgets those of a volume and a server.
func (c *Cloud) endAttachments(volume string, server any) {
	maps.DeleteFunc(c.all["attachments"], func(_ string, a Object) bool { return a["volume_id"] == volume && a["instance"] == server })
}

// absent refuses a server whose image or flavor is not there.
func (k *call) absent(want Object) bool {
	for _, of := range []struct{ kind, key, name string }{{"images", "imageRef", "Image"}, {"flavors", "flavorRef", "Flavor"}} {
		if k.all[of.kind][fmt.Sprint(want[of.key])] == nil {
			k.refuse(http.StatusBadRequest, "%s %v could not be found.", of.name, want[of.key])
			return true
		}
	}
	return false
}

func (k *call) makeServer() {
	want := k.body["server"].(Object)
	if k.absent(want) {
		return
	}
	id := newID()
	var ports, volumes []string
	for _, n := range want["networks"].([]any) {
		port := n.(Object)["port"].(string)
		if p := k.all["ports"][port]; p == nil || p["device_id"] != "" {
			k.refuse(http.StatusConflict, "Port %s is still in use.", port)
			return
		}
		ports = append(ports, port)
	}
	for _, b := range want["block_device_mapping_v2"].([]any) {
		if o := b.(Object); o["source_type"] == "volume" {
			if !k.take(o["uuid"].(string), id) {
				return
			}
			volumes = append(volumes, o["uuid"].(string))
		}
	}
	group, ok := k.hinted()
	if !ok {
		return
	}
	s := k.put("servers", id, Object{
		"name": want["name"], "status": "BUILD", "OS-EXT-STS:task_state": "spawning", "OS-EXT-STS:power_state": 0, "flavor": Object{"id": want["flavorRef"]},
		"image": Object{"id": want["imageRef"]}, "metadata": want["metadata"], "tags": want["tags"], volumesAttached: []Object{}, "user_data": want["user_data"],
		userDataKey: want["user_data"], hostKey: nil,
	})
	k.did(id, "create")
	if group != nil {
		group["members"] = append(group["members"].([]string), id)
	}
	noHost, noBinding, notBuilt := k.knobs.NoValidHost || k.knobs.NoRoom > 0, k.knobs.NoBinding, k.knobs.NotBuilt > 0
	k.knobs.NotBuilt--
	k.knobs.NoRoom--
	for _, p := range ports {
		k.all["ports"][p]["device_id"] = id
	}
	c := k.Cloud
	reserved := slices.ContainsFunc(ports, func(p string) bool { return strings.HasPrefix(fmt.Sprint(c.all["ports"][p]["mac_address"]), "fe:") })
	k.later(id, s, func(s Object) {
		host := c.place(id, func(string) bool { return true })
		switch {
		case noHost || host == "":
			c.fail(s, "No valid host was found. There are not enough hosts available.")
			return
		case notBuilt, reserved: // libvirt: "Unable to use MAC address starting with reserved value 0xFE"
			c.fail(s, "Exceeded maximum number of retries. Exhausted all hosts available for retrying build failures for instance "+id+".")
			return
		case noBinding:
			for _, p := range ports {
				k.all["ports"][p]["binding:vif_type"] = "binding_failed"
			}
			c.fail(s, "Build of instance "+id+" aborted: Binding failed for a port, please check neutron logs for more information.")
			return
		}
		for _, p := range ports {
			k.all["ports"][p]["binding:vif_type"] = "bridge"
		}
		for _, v := range volumes {
			k.attach(s, v)
		}
		s[hostKey] = host
		run(s)
		k.on(s)
	})
	k.answer(http.StatusAccepted, Object{"server": Object{"id": id}})
}

// on starts the guest of a server, off ends it. The caller holds the lock.
func (c *Cloud) on(s Object) {
	instance, _ := s["metadata"].(Object)["trove_instance"].(string)
	text, _ := s["user_data"].(string)
	data, err := base64.StdEncoding.DecodeString(text)
	if c.boot != nil && err == nil {
		c.boot(instance, data)
	}
}

func (c *Cloud) off(s Object) {
	if instance, _ := s["metadata"].(Object)["trove_instance"].(string); c.halt != nil {
		c.halt(instance)
	}
}

func run(s Object) {
	s["status"], s["OS-EXT-STS:task_state"], s["OS-EXT-STS:power_state"] = "ACTIVE", nil, 1
}

func stop(s Object) {
	s["status"], s["OS-EXT-STS:task_state"], s["OS-EXT-STS:power_state"] = "SHUTOFF", nil, 4
}

// fail ends a server in ERROR. Why is written after that: whoever looks at once does not see it.
func (c *Cloud) fail(s Object, message string) {
	s["status"], s["OS-EXT-STS:task_state"] = "ERROR", nil
	c.steps[s["id"].(string)] = &step{looks: max(2, c.knobs.Looks), then: func(s Object) { s["fault"] = Object{"code": 500, "message": message} }}
}

func (c *Cloud) did(server, what string) {
	c.actions[server] = append(c.actions[server], Object{"action": what, "message": nil, "request_id": "req-" + newID()})
}

func (k *call) removeServer() {
	s := k.find("servers")
	if s == nil {
		return
	}
	if k.knobs.SoftDelete && s[hostKey] != nil { // one that was never built is not kept
		k.off(s)
		s["status"], s["OS-EXT-STS:task_state"], s["OS-EXT-STS:power_state"] = softDeleted, nil, 4
		k.answer(http.StatusNoContent, nil)
		return
	}
	k.endServer(s)
	k.answer(http.StatusNoContent, nil)
}

const softDeleted = "SOFT_DELETED"

// endServer removes a server with all that it has.
func (k *call) endServer(s Object) {
	id := s["id"].(string)
	s["OS-EXT-STS:task_state"] = "deleting"
	k.off(s)
	keeps := k.knobs.Reserved
	k.later(id, s, func(s Object) {
		for _, v := range slices.Clone(s[volumesAttached].([]Object)) {
			k.letGo(s, v["id"].(string))
		}
		for volume, v := range k.all["volumes"] {
			if v["status"] == "reserved" && !keeps {
				v["status"] = "available"
				k.endAttachments(volume, id)
			}
		}
		for _, p := range k.all["ports"] {
			if p["device_id"] == id {
				p["device_id"], p["binding:vif_type"] = "", "unbound"
			}
		}
		k.leave(id)
		delete(k.all["servers"], id)
	})
}

// act is what a server is told to do.
func (k *call) act() {
	s := k.find("servers")
	if s == nil {
		return
	}
	id, was := s["id"].(string), s["status"].(string)
	var action string
	var args Object
	for name, a := range k.body {
		action = name
		args, _ = a.(Object)
	}
	if s["OS-EXT-STS:task_state"] != nil {
		k.refuse(http.StatusConflict, "Cannot '%s' instance %s while it is in task_state %v", action, id, s["OS-EXT-STS:task_state"])
		return
	}
	begin := func(task, did string, then func(Object)) {
		s["OS-EXT-STS:task_state"] = task
		k.did(id, did)
		k.later(id, s, then)
		k.answer(http.StatusAccepted, nil)
	}
	restart := func(s Object) {
		run(s)
		k.on(s)
	}
	switch {
	case action == "forceDelete":
		k.endServer(s)
		k.answer(http.StatusAccepted, nil)
	case action == "os-stop" && was == "ACTIVE":
		k.off(s)
		begin("powering-off", "stop", stop)
	case action == "os-start" && was == "SHUTOFF":
		begin("powering-on", "start", restart)
	case action == "reboot":
		k.off(s)
		begin("rebooting", "reboot", restart)
	case action == "rebuild":
		k.off(s)
		begin("rebuilding", "rebuild", func(s Object) {
			s["image"], s["metadata"], s["user_data"], s[userDataKey] = Object{"id": args["imageRef"]}, args["metadata"], args["user_data"], args["user_data"]
			if was == "SHUTOFF" {
				stop(s)
				return
			}
			restart(s)
		})
	case action == "resize" && (was == "ACTIVE" || was == "SHUTOFF"):
		k.resize(was, args, begin)
	case action == "migrate" && (was == "ACTIVE" || was == "SHUTOFF"):
		k.migrate(s, was, args, begin)
	case action == "confirmResize" && was == "VERIFY_RESIZE":
		begin("confirming", "confirmResize", afterResize(s))
	case action == "revertResize" && was == "VERIFY_RESIZE":
		s["flavor"] = s["old_flavor"]
		if s["old_host"] != nil {
			s[hostKey] = s["old_host"]
		}
		begin("reverting", "revertResize", afterResize(s))
	default:
		k.refuse(http.StatusConflict, "Cannot '%s' instance %s while it is in vm_state %s", action, id, strings.ToLower(was))
	}
}

func afterResize(s Object) func(Object) {
	if s["old_status"] == "SHUTOFF" {
		return stop
	}
	return run
}

func (k *call) resize(was string, args Object, begin func(task, did string, then func(Object))) {
	if k.all["flavors"][fmt.Sprint(args["flavorRef"])] == nil {
		k.refuse(http.StatusBadRequest, "Flavor %v could not be found.", args["flavorRef"])
		return
	}
	noHost := k.knobs.NoResize
	if was == "ACTIVE" && !noHost {
		k.off(k.all["servers"][k.r.PathValue("id")])
	}
	begin("resize_prep", "resize", func(s Object) {
		if noHost {
			all := k.actions[s["id"].(string)]
			all[len(all)-1]["message"] = "Error"
			s["OS-EXT-STS:task_state"] = nil
			return
		}
		s["old_host"], s["old_flavor"], s["old_status"], s["flavor"] = nil, s["flavor"], was, Object{"id": args["flavorRef"]}
		s["status"], s["OS-EXT-STS:task_state"] = "VERIFY_RESIZE", nil
		if was == "ACTIVE" {
			k.on(s)
		}
	})
}
