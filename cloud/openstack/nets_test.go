package openstack_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/openstack"
	"github.com/trove-dbaas/trove/cloud/openstack/openstacktest"
)

// squat makes a network of a tenant with a name that means something to the service.
func (b *bed) squat(name, project string) string {
	return b.c.Add("networks", openstacktest.Object{"name": name, "project_id": project, "subnets": []string{"s"}, "mtu": 1450, "shared": false, "router:external": false})
}

func TestATenantsNetworkCalledPublicMakesEveryPublicCreateFail(t *testing.T) {
	b := newBed(t)
	b.squat("public", openstacktest.Other)
	for _, owner := range []string{openstacktest.Service, "the administrator's"} {
		b.c.Change("networks", "public", func(o openstacktest.Object) {
			if o["router:external"] == true {
				o["project_id"] = owner
			}
		})
		b.p, b.id = open(t, b.c), trove.NewID()
		s := b.network()
		s.Access.IsPublic = true
		_, err := b.p.EnsureNetwork(t.Context(), s)
		b.must(err)
	}
	for _, f := range b.c.Objects("floatingips") {
		if f["floating_network_id"] != openstacktest.Public {
			t.Errorf("the address is of the network %v", f["floating_network_id"])
		}
	}
}

func TestGuestsArePutIntoATenantsManagementNetwork(t *testing.T) {
	b := newBed(t)
	set := func(key string, value any) {
		b.c.Change("networks", "trove-management", func(o openstacktest.Object) { o[key] = value })
		b.p = open(t, b.c)
	}
	set("project_id", openstacktest.Other) // ours is not there, and this is a tenant's
	_, err := b.p.EnsureNetwork(t.Context(), b.network())
	if trove.KindOf(err) != trove.KindUnavailable || !strings.Contains(trove.MessageOf(err), "is another project's and not shared") {
		t.Errorf("got %v", err)
	}
	for _, r := range b.c.Requests() {
		if r.Method == http.MethodPost && strings.Contains(r.Body, openstacktest.Management) {
			t.Errorf("%s %s", r.Path, r.Body)
		}
	}
	b.p = open(t, b.c, func(c *openstack.Config) { c.ManagementNetwork = openstacktest.Management }) // an operator means it
	_, err = b.p.EnsureNetwork(t.Context(), b.network())
	b.must(err)
	b.id = trove.NewID()
	set("shared", true) // its administrator lets others use it
	_, err = b.p.EnsureNetwork(t.Context(), b.network())
	b.must(err)
}

func TestATenantsNetworkOfTheDefaultsNameIsGivenToOthers(t *testing.T) {
	b := newBed(t)
	b.p = open(t, b.c, func(c *openstack.Config) { c.DefaultNetwork = "house" })
	squatted := b.squat("house", openstacktest.Tenant)
	of := func(project string) (string, error) {
		return b.p.NetworkOf(t.Context(), cloud.Rights{Project: project})
	}
	if id, err := of(openstacktest.Other); !trove.IsNotFound(err) {
		t.Errorf("another gets %s, %v", id, err)
	}
	if id, err := of(openstacktest.Tenant); err != nil || id != squatted {
		t.Errorf("its owner gets %s, %v", id, err)
	}
	all, err := b.p.TenantNetworks(t.Context(), cloud.Rights{Project: openstacktest.Other})
	b.must(err)
	for _, n := range all {
		if n.ID == squatted {
			t.Errorf("it is a network of another: %+v", all)
		}
	}
	ours := b.squat("house", openstacktest.Service)
	b.p = open(t, b.c, func(c *openstack.Config) { c.DefaultNetwork = "house" })
	for _, project := range []string{openstacktest.Tenant, openstacktest.Other} {
		if id, err := of(project); err != nil || id != ours {
			t.Errorf("%s gets %s, %v; want %s", project, id, err, ours)
		}
	}
}

func TestATenantOfManyNetworksCanMakeNoInstance(t *testing.T) {
	b := newBed(t)
	for n := range 250 {
		id := b.squat(fmt.Sprintf("net-%03d", n), openstacktest.Tenant)
		b.c.Add("subnets", openstacktest.Object{"network_id": id, "cidr": "10.3.0.0/24", "project_id": openstacktest.Tenant})
	}
	all, err := b.p.TenantNetworks(t.Context(), cloud.Rights{Project: openstacktest.Tenant, Token: openstacktest.TenantUser})
	b.must(err)
	if len(all) != 251 || slices.ContainsFunc(all, func(n cloud.TenantNetwork) bool { return len(n.Subnets) != 1 }) {
		t.Errorf("%d networks, the first one %+v", len(all), all[0])
	}
}
