package bootstrap_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/trove-dbaas/trove/cloud/openstack/bootstrap"
)

const squatted = "99999999-0000-4000-8000-000000000009"

// squat makes a network of a project with the name of the management network.
func (f *fixture) squat(project string) object {
	return f.Put("network/v2.0/networks", object{
		"id": squatted, "name": f.w.Network, "project_id": project, "description": "", "admin_state_up": true, "shared": false, "mtu": 1500,
		"provider:network_type": "vlan", "provider:physical_network": "physnet1", "provider:segmentation_id": 78,
	})
}

func (f *fixture) network(t *testing.T) bootstrap.Step {
	t.Helper()
	steps := f.plan(t)
	return steps[slices.IndexFunc(steps, func(s bootstrap.Step) bool { return s.Part == bootstrap.PartNetwork })]
}

// says returns the network that the configuration gets.
func (f *fixture) says(t *testing.T) string {
	t.Helper()
	found, err := f.b.Look(t.Context(), f.w)
	if err != nil {
		t.Fatal(err)
	}
	all := bootstrap.Settings(f.w, found)
	return all[slices.IndexFunc(all, func(s bootstrap.Setting) bool { return s.Key == "openstack.management_network" })].Value
}

func TestATenantsNetworkIsTakenForTheManagementNetwork(t *testing.T) {
	f := newFixture(t)
	f.squat("p-tenant")
	if s := f.network(t); s.State != bootstrap.Refused || !strings.Contains(s.Detail, "p-tenant") || !strings.Contains(s.Detail, squatted) {
		t.Errorf("%+v", s)
	}
	if _, err := f.b.Run(t.Context(), f.w, false, func(bootstrap.Step) {}); err == nil || len(f.Made()) > 0 {
		t.Errorf("it was used: %v", err)
	}
	f.w.Network = squatted // somebody means it
	if s := f.network(t); s.State != bootstrap.There || f.says(t) != squatted {
		t.Errorf("by its id: %+v, and the configuration says %s", s, f.says(t))
	}
}

func TestATenantsNetworkOfTheNameStopsABootstrapOfOneThatIsThere(t *testing.T) {
	f := newFixture(t)
	f.run(t)
	f.squat("p-tenant")
	if changed := f.run(t); len(changed) > 0 {
		t.Errorf("changed %q", changed)
	}
	if s := f.network(t); s.State != bootstrap.There || f.says(t) != f.w.Network {
		t.Errorf("%+v, and the configuration says %s", s, f.says(t))
	}
}

func TestANetworkOfTheAdministratorIsNotFoundByTheService(t *testing.T) {
	f := newFixture(t)
	n := f.squat("p-admin")
	if s := f.network(t); s.State != bootstrap.There || f.says(t) != squatted {
		t.Errorf("%+v, and the configuration says %s", s, f.says(t))
	}
	n["project_id"], n["shared"] = "p-other", true
	if s := f.network(t); s.State != bootstrap.Yours || f.says(t) != f.w.Network {
		t.Errorf("shared: %+v, and the configuration says %s", s, f.says(t))
	}
}

func TestACheckCountsNetworksAndGroupsOfTenants(t *testing.T) {
	f := newFixture(t)
	f.run(t)
	f.squat("p-tenant")
	f.Put("network/v2.0/security-groups", object{"id": "g-tenant", "name": f.w.Group, "project_id": "p-tenant"})
	found, err := f.b.Look(t.Context(), f.w)
	if err != nil {
		t.Fatal(err)
	}
	all := f.b.CheckEnds(t.Context(), f.w, found, bootstrap.Ends{
		LogIn: func(context.Context) (bootstrap.Services, error) { return f.b.Services, nil }, HTTP: &http.Client{},
		Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("not tried") },
	})
	for _, n := range all {
		if n.Part == bootstrap.PartLogin && n.Level != bootstrap.Fine {
			t.Errorf("%+v", n)
		}
	}
}
