package openstack_test

import (
	"context"
	"os/exec"
	"testing"
)

// routedController is an address outside the management network. Guests get to it by the host of the lab, which is a router to them.
const routedController = "10.99.77.1"

// TestStoryBehindARouter is the story of an instance whose controllers are not in the management network: bootstrap makes a route to them, which guests have.
// It comes after the other story, since the catalogue leads to this service then.
func TestStoryBehindARouter(t *testing.T) {
	c := lab(t)
	address := func(ctx context.Context, do string) {
		if out, err := exec.CommandContext(ctx, "/usr/sbin/ip", "address", do, routedController+"/32", "dev", "lo").CombinedOutput(); err != nil {
			t.Errorf("%s the controller's address: %v: %s", do, err, out)
		}
	}
	address(t.Context(), "add")
	t.Cleanup(func() { address(context.WithoutCancel(t.Context()), "delete") })
	s := newServiceAt(t, routedController, "routed", []string{"--controller-address", routedController, "--via", controller}, images(t)...)
	e := mariadb()
	e.apart = ", the controllers behind a router"
	tell(t, c, s, e, false)
}
