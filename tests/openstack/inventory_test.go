package openstack_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/tests/openstack"
)

// TestInventory makes one thing in each service and takes it away: an inventory that does not see it would find nothing left over, whatever was.
func TestInventory(t *testing.T) {
	c, demo, name := lab(t), as(t, "demo"), "inventory-"+unique
	before := take(t, c)
	address, secret := "", ""
	for _, service := range []struct {
		sees   []string // what the inventory has more then
		make   func()
		remove func()
	}{
		{
			[]string{"volume ", "RBD image "},
			func() { demo.run(t, "volume", "create", "--size", "1", name) },
			func() { demo.run(t, "volume", "delete", name) },
		},
		{
			[]string{"port ", "DHCP host "},
			func() { demo.run(t, "port", "create", "--network", "tenant", name) },
			func() { demo.run(t, "port", "delete", name) },
		},
		{
			[]string{"security group ", "security group rule "},
			func() { demo.run(t, "security", "group", "create", name) },
			func() { demo.run(t, "security", "group", "delete", name) },
		},
		{
			[]string{"server group "},
			func() { demo.run(t, "server", "group", "create", "--policy", "anti-affinity", name) },
			func() { demo.run(t, "server", "group", "delete", name) },
		},
		{
			[]string{"floating IP "},
			func() {
				address = fmt.Sprint(demo.thing(t, "floating", "ip", "create", "public")["floating_ip_address"])
			},
			func() { demo.run(t, "floating", "ip", "delete", address) },
		},
		{
			[]string{"container demo/" + name},
			func() { demo.run(t, "container", "create", name) },
			func() { demo.run(t, "container", "delete", name) },
		},
		{
			[]string{"Barbican's secrets of demo "},
			func() {
				secret = fmt.Sprint(demo.thing(t, "secret", "store", "-n", name, "-p", "nothing")["Secret href"])
			},
			func() { demo.run(t, "secret", "delete", secret) },
		},
	} {
		service.make()
		for _, line := range service.sees {
			eventually(t, time.Minute, "the inventory to see one more "+line, func() bool { return came(before, take(t, c), line) })
		}
		service.remove()
		for _, line := range service.sees {
			eventually(t, time.Minute, "the inventory to see that it is gone: "+line, func() bool { return !came(before, take(t, c), line) })
		}
	}
}

func came(before, after openstack.Inventory, line string) bool {
	return slices.ContainsFunc(openstack.Difference(before, after), func(have string) bool { return strings.HasPrefix(have, "+ "+line) })
}
