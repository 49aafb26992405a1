package openstack_test

import (
	"context"
	"os/exec"
	"strings"
	"testing"

	"github.com/trove-dbaas/trove/tests/openstack"
)

// routedController is an address outside the management network. Guests get to it by the host of the lab, which is a router to them.
const routedController = "10.99.77.1"

// routed is the story of an instance whose controllers are not in the management network: bootstrap makes a route to them, and guests have that one alone.
func routed(t *testing.T, c *openstack.Cloud, images []string) {
	for _, line := range []string{"link add trove-away type dummy", "address add " + routedController + "/32 dev trove-away", "link set trove-away up"} {
		if out, err := exec.CommandContext(t.Context(), "/usr/sbin/ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", line, err, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.CommandContext(context.WithoutCancel(t.Context()), "/usr/sbin/ip", "link", "delete", "trove-away").CombinedOutput(); err != nil {
			t.Errorf("the controller's address stays: %v: %s", err, out)
		}
	})
	s := newServiceAt(t, routedController, "routed", []string{"--controller-address", routedController, "--via", controller}, images...)
	e := mariadb()
	e.apart = ", the controllers behind a router"
	tell(t, c, s, e, false)
}
