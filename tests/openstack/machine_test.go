package openstack_test

import (
	"context"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/tests/openstack"
)

// tenantMachine is a client on the network of the project demo until the test ends.
func tenantMachine(t *testing.T, c *openstack.Cloud) *openstack.Machine {
	t.Helper()
	return machine(t, c, openstack.Place{Project: "demo", Network: "tenant"}, "client")
}

func machine(t *testing.T, c *openstack.Cloud, at openstack.Place, name string) *openstack.Machine {
	t.Helper()
	m, err := c.NewMachine(t.Context(), at, name+"-"+unique)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Remove(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return m
}

// TestTenantMachine shows that a client machine is on the tenant's network, behind its router.
func TestTenantMachine(t *testing.T) {
	c := lab(t)
	before := take(t, c)
	t.Run("reaches", func(t *testing.T) {
		m := tenantMachine(t, c)
		for _, to := range []string{"10.1.0.1:1", "172.24.4.1:1"} { // the router, and this host as a client of the external network
			eventually(t, time.Minute, to+" to be reached", func() bool { return m.Reaches(t.Context(), to) })
		}
		if m.Reaches(t.Context(), "10.2.0.1:1") {
			t.Error("a machine of one tenant reaches the router of another")
		}
	})
	nothingLeft(t, c, before)
}
