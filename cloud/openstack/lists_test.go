package openstack_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/openstack/openstacktest"
)

// The lists of all that there is are what grows with the deployment: no more is asked of each thing than whose it is, and of servers that are not active.
func TestListsAskForLittle(t *testing.T) {
	b := newBed(t)
	want := map[string]cloud.MachineState{}
	for _, status := range []string{"ACTIVE", "SHUTOFF", "ERROR", "BUILD"} {
		b.id = trove.NewID()
		b.made()
		b.c.Change("servers", "trove-"+b.id, func(o openstacktest.Object) { o["status"] = status })
		want[b.id] = map[string]cloud.MachineState{
			"ACTIVE": cloud.MachineRunning, "SHUTOFF": cloud.MachineStopped, "ERROR": cloud.MachineFailed, "BUILD": cloud.MachinePending,
		}[status]
	}
	before := len(b.c.Requests())
	machines, err := b.p.Machines(t.Context())
	b.must(err)
	volumes, err := b.p.Volumes(t.Context())
	b.must(err)
	networks, err := b.p.Networks(t.Context())
	b.must(err)

	got := map[string]cloud.MachineState{}
	for _, m := range machines {
		got[m.Instance] = m.State
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("machines (-want +got):\n%s", diff)
	}
	for _, v := range volumes {
		delete(got, v.Instance)
	}
	if len(volumes) != len(want) || len(networks) != len(want) || len(got) > 0 {
		t.Errorf("volumes %v, networks %v", volumes, networks)
	}
	for _, r := range b.c.Requests()[before:] {
		if !strings.Contains(r.Query, "limit=") || strings.HasSuffix(r.Path, "/detail") && !strings.Contains(r.Query, "status=") ||
			strings.HasPrefix(r.Path, "/network") && !strings.Contains(r.Query, "fields=description") {
			t.Errorf("%s?%s was asked", r.Path, r.Query)
		}
	}
}

// A floating address that was left alone is something of an instance too.
func TestAFloatingAddressAloneIsListed(t *testing.T) {
	b := newBed(t)
	b.c.Add("floatingips", openstacktest.Object{
		"description": "trove_instance=" + b.id, "tags": []any{"trove_deployment=" + deployment}, "project_id": openstacktest.Service, "floating_ip_address": "172.24.4.9",
	})
	networks, err := b.p.Networks(t.Context())
	if err != nil || len(networks) != 1 || networks[0].Instance != b.id {
		t.Errorf("Networks = %v, %v", networks, err)
	}
}

// What is in the lists beside ours is nobody's instance.
func TestListsKnowWhatIsOurs(t *testing.T) {
	b := newBed(t)
	for _, name := range []string{"trove-", "trove-" + b.id + "-previous", b.id, "somebody's"} {
		var metadata openstacktest.Object
		b.must(json.Unmarshal([]byte(`{"trove_deployment": "`+deployment+`"}`), &metadata))
		b.c.Add("volumes", openstacktest.Object{"name": name, "status": "available", "metadata": metadata, "size": 1.0, "attachments": []openstacktest.Object{}})
	}
	volumes, err := b.p.Volumes(t.Context())
	if err != nil || len(volumes) > 0 {
		t.Errorf("Volumes = %v, %v", volumes, err)
	}
}
