package openstack_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/openstack/openstacktest"
)

// victim is a server of somebody, with a port that is described as the management port of a Python Trove's instance.
func (b *bed) victim(project string) (server string) {
	b.Helper()
	server = b.c.Add("servers", openstacktest.Object{
		"name": "shop", "status": "SHUTOFF", "OS-EXT-STS:task_state": nil, "tenant_id": project, "metadata": openstacktest.Object{}, "tags": []any{},
		"os-extended-volumes:volumes_attached": []openstacktest.Object{},
	})
	b.c.Add("ports", openstacktest.Object{
		"name": "trove-" + b.id, "description": "Management port for trove instance " + b.id, "device_id": server, "network_id": openstacktest.Management,
		"project_id": project, "tags": []any{}, "fixed_ips": []openstacktest.Object{},
	})
	return server
}

func (b *bed) adoption(server string) cloud.Adoption {
	return cloud.Adoption{Network: b.network(), ServerID: server, VolumeID: trove.NewID()}
}

func TestAPortOfATenantNamesTheServerThatTheEndOfAnAdoptionRemoves(t *testing.T) {
	b := newBed(t)
	b.victim(openstacktest.Tenant)
	a := b.adoption("")
	f, err := b.p.FindForeign(t.Context(), a)
	if err != nil || f.ServerID != "" {
		t.Errorf("found the server %q, %v", f.ServerID, err)
	}
	if _, err := b.p.FinishAdoption(t.Context(), a); err != nil {
		t.Errorf("got %v", err)
	}
	if n, ports := len(b.c.Objects("servers")), len(b.c.Objects("ports")); n != 1 || ports != 1 {
		t.Errorf("%d servers and %d ports of the tenant are left, want 1 and 1", n, ports)
	}
}

func TestAServerOfAnotherProjectIsTakenForTheOldOne(t *testing.T) {
	b := newBed(t)
	a := b.adoption(b.victim(openstacktest.Other))
	a.VolumeID = b.c.Add("volumes", openstacktest.Object{
		"name": "old", "status": "available", "size": 1.0, "metadata": openstacktest.Object{}, "attachments": []openstacktest.Object{},
	})
	before := len(b.c.Requests())
	for name, call := range map[string]func(context.Context, cloud.Adoption) (string, error){"finished": b.p.FinishAdoption, "given back": b.p.GiveBack} {
		_, err := call(t.Context(), a)
		if !trove.IsPermanent(err) || trove.KindOf(err) != trove.KindConflict || !strings.Contains(trove.MessageOf(err), "is in the project "+openstacktest.Other) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, r := range b.c.Requests()[before:] {
		if r.Method != http.MethodGet {
			t.Errorf("%s %s was asked", r.Method, r.Path)
		}
	}
}

func TestTheServerOfAPythonTroveIsFoundByItsManagementPort(t *testing.T) {
	b := newBed(t)
	server := b.victim(openstacktest.Service)
	a := b.adoption("")
	f, err := b.p.FindForeign(t.Context(), a)
	if err != nil || f.ServerID != server {
		t.Errorf("found the server %q, %v; want %s", f.ServerID, err, server)
	}
	if doing, err := b.p.FinishAdoption(t.Context(), a); err != nil || doing != "removing the old server" {
		t.Errorf("got %q, %v", doing, err)
	}
}
