package openstack_test

import (
	"net/http"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/openstack/openstacktest"
)

func TestAnInstanceCannotBeDeletedWhereNovaKeepsDeletedServers(t *testing.T) {
	b := newBed(t)
	b.c.Set(func(k *openstacktest.Knobs) { k.SoftDelete = true })
	b.made()
	b.removed()
	if n := len(b.c.Objects("servers")); n != 0 {
		t.Errorf("%d servers are left", n)
	}
}

func TestAMachineIsNotMadeAnewWhereNovaKeepsDeletedServers(t *testing.T) {
	b := newBed(t)
	b.c.Set(func(k *openstacktest.Knobs) { k.SoftDelete = true })
	first := b.made()
	b.must(b.p.RemoveMachine(t.Context(), b.id))
	var m cloud.Machine
	var err error
	for range 3 {
		if m, err = b.p.EnsureMachine(t.Context(), b.machine()); err != nil && trove.IsPermanent(err) {
			t.Fatal(err)
		}
	}
	if err != nil || m.State != cloud.MachineRunning || m.ID == first.ID {
		t.Errorf("it is %+v, %v", m, err)
	}
	b.removed()
}

// What Nova keeps of another deployment is none of ours.
func TestAServerOfAnotherDeploymentThatNovaKeepsIsLeftAlone(t *testing.T) {
	b := newBed(t)
	b.c.Set(func(k *openstacktest.Knobs) { k.SoftDelete = true })
	b.made()
	b.must(b.p.RemoveMachine(t.Context(), b.id))
	b.c.Change("servers", "trove-"+b.id, func(o openstacktest.Object) { o["metadata"] = openstacktest.Object{"trove_deployment": "another"} })
	if err := b.p.RemoveVolume(t.Context(), b.id); trove.KindOf(err) != trove.KindConflict {
		t.Errorf("got %v", err)
	}
	if n := len(b.c.Objects("servers")); n != 1 {
		t.Errorf("%d servers are left", n)
	}
}

func TestTheEndOfAnAdoptionWaitsForAServerThatNovaKeeps(t *testing.T) {
	b := newBed(t)
	b.c.Set(func(k *openstacktest.Knobs) { k.SoftDelete = true })
	b.victim(openstacktest.Service)
	b.c.Change("servers", "shop", func(o openstacktest.Object) { o["status"], o["OS-EXT-SRV-ATTR:host"] = "SOFT_DELETED", "host1" })
	for range 2 {
		_, err := b.p.FinishAdoption(t.Context(), b.adoption(""))
		b.must(err)
	}
	if n := len(b.c.Objects("servers")); n != 0 {
		t.Errorf("%d servers are left", n)
	}
}

func TestNothingMoreIsAskedWhereNovaKeepsNothing(t *testing.T) {
	b := newBed(t)
	b.made()
	before := len(b.c.Requests())
	b.removed()
	for _, r := range b.c.Requests()[before:] {
		if strings.HasPrefix(r.Path, "/compute/v2.1/servers/") && r.Method != http.MethodDelete && !strings.HasSuffix(r.Path, "/detail") || strings.Contains(r.Path, "attachments") {
			t.Errorf("%s %s was asked", r.Method, r.Path)
		}
	}
}
