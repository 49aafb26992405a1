package openstack_test

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/openstack"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
	"github.com/trove-dbaas/trove/internal/clock"
)

// old is an instance as a Python Trove makes it: a server with the instance's name, a volume at /dev/vdb, a port on the management network and one on the tenant's.
type old struct {
	t        *testing.T
	session  *osclient.Session
	provider *openstack.Provider
	image    string
	project  string
	id       string
	server   string
	volume   string
	port     string
	address  string
	group    string
}

type fields map[string]any

// ask is a request beside the driver.
func (o *old) ask(client func() (*gophercloud.ServiceClient, error), method, path string, body, into any) error {
	o.t.Helper()
	c, err := client()
	if err != nil {
		o.t.Fatal(err)
	}
	_, err = c.Request(context.WithoutCancel(o.t.Context()), method, c.ServiceURL(path), &gophercloud.RequestOpts{ //nolint:bodyclose // it is read and closed
		JSONBody: body, JSONResponse: into, OkCodes: []int{200, 201, 202, 203, 204},
	})
	return err
}

func (o *old) must(client func() (*gophercloud.ServiceClient, error), method, path string, body, into any) {
	o.t.Helper()
	if err := o.ask(client, method, path, body, into); err != nil {
		o.t.Fatalf("%s %s: %v", method, path, err)
	}
}

type thing struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Status      string            `json:"status"`
	Description string            `json:"description"`
	Device      string            `json:"device_id"`
	Groups      json.RawMessage   `json:"security_groups"` // Neutron has ids, Nova more
	Tags        []string          `json:"tags"`
	Metadata    map[string]string `json:"metadata"`
	FixedIPs    []struct {
		Address string `json:"ip_address"`
	} `json:"fixed_ips"`
	Attachments []struct {
		Server string `json:"server_id"`
		Device string `json:"device"`
	} `json:"attachments"`
}

func (o *old) get(client func() (*gophercloud.ServiceClient, error), path, key string) thing {
	o.t.Helper()
	var body map[string]thing
	o.must(client, "GET", path, nil, &body)
	return body[key]
}

func (o *old) first(client func() (*gophercloud.ServiceClient, error), path, key string) string {
	o.t.Helper()
	var body map[string][]thing
	o.must(client, "GET", path, nil, &body)
	if len(body[key]) == 0 {
		o.t.Fatalf("there is nothing at %s", path)
	}
	return body[key][0].ID
}

// until looks until it is so.
func (o *old) until(what string, done func() bool) {
	o.t.Helper()
	for end := time.Now().Add(5 * time.Minute); !done(); {
		if time.Now().After(end) {
			o.t.Fatalf("waited in vain for %s", what)
		}
		_ = clock.Sleep(context.WithoutCancel(o.t.Context()), time.Second)
	}
}

// carry calls until there is nothing left to do, and returns what was being done.
func (o *old) carry(what string, call func(context.Context, cloud.Adoption) (string, error)) []string {
	o.t.Helper()
	var said []string
	o.until(what, func() bool {
		doing, err := call(o.t.Context(), o.adoption())
		if err != nil && trove.IsPermanent(err) {
			o.t.Fatalf("%s: %v", what, err)
		}
		if doing != "" && !slices.Contains(said, doing) {
			said = append(said, doing)
		}
		return err == nil && doing == ""
	})
	return said
}

func (o *old) adoption() cloud.Adoption {
	return cloud.Adoption{Network: cloud.NetworkSpec{Instance: o.id, Project: o.project, TCPPorts: []int{3306}}, ServerID: o.server, VolumeID: o.volume}
}

func newOld(t *testing.T) *old {
	t.Helper()
	v := labVariables(t)
	o := &old{t: t, session: labSession(t, v), id: trove.NewID()}
	o.provider = labProvider(t, v, trove.NewID())
	tenant := cmp.Or(v["TROVE_TEST_NETWORK"], "tenant")
	o.image, o.project = labImage(t, o.session, cmp.Or(v["TROVE_TEST_IMAGE"], "lab-tiny")), labProject(t, o.session, tenant)
	network, compute, volume := o.session.Network, o.session.Compute, o.session.Volume
	var made map[string]thing
	o.must(network, "POST", "security-groups", fields{"security_group": fields{
		"name": "trove_sg-" + o.id, "description": "Security group for trove instance " + o.id,
	}}, &made)
	o.group = made["security_group"].ID
	t.Cleanup(func() { _ = o.ask(network, "DELETE", "security-groups/"+o.group, nil, nil) })
	port := func(of, kind string) thing {
		made = nil
		o.must(network, "POST", "ports", fields{"port": fields{
			"name": "trove-" + o.id, "description": kind + " port for trove instance " + o.id, "security_groups": []string{o.group},
			"network_id": o.first(network, "networks?name="+of, "networks"),
		}}, &made)
		p := made["port"]
		t.Cleanup(func() { _ = o.ask(network, "DELETE", "ports/"+p.ID, nil, nil) })
		return p
	}
	management, user := port(cmp.Or(v["TROVE_TEST_MANAGEMENT"], "trove-management"), "Management"), port(tenant, "User")
	o.port, o.address = user.ID, user.FixedIPs[0].Address
	made = nil
	o.must(volume, "POST", "volumes", fields{"volume": fields{"name": "trove-" + o.id, "size": 1}}, &made)
	o.volume = made["volume"].ID
	t.Cleanup(func() { _ = o.ask(volume, "DELETE", "volumes/"+o.volume+"?cascade=true", nil, nil) })
	o.until("the volume", func() bool { return o.get(volume, "volumes/"+o.volume, "volume").Status == "available" })
	made = nil
	o.must(compute, "POST", "servers", fields{"server": fields{
		"name": "shop", "imageRef": o.image, "flavorRef": o.flavor(), "networks": []fields{{"port": management.ID}, {"port": user.ID}},
		"block_device_mapping_v2": []fields{
			{"boot_index": 0, "source_type": "image", "destination_type": "local", "uuid": o.image, "delete_on_termination": true},
			{"boot_index": -1, "source_type": "volume", "destination_type": "volume", "uuid": o.volume, "device_name": "vdb", "delete_on_termination": true},
		},
	}}, &made)
	o.server = made["server"].ID
	t.Cleanup(func() {
		_ = o.ask(compute, "DELETE", "servers/"+o.server, nil, nil)
		o.until("the old server to be gone", func() bool { return trove.IsNotFound(o.ask(compute, "GET", "servers/"+o.server, nil, nil)) })
	})
	o.until("the old server", func() bool { return o.get(compute, "servers/"+o.server, "server").Status == "ACTIVE" })
	return o
}

func (o *old) flavor() string {
	o.t.Helper()
	var body map[string][]thing
	o.must(o.session.Compute, "GET", "flavors", nil, &body)
	n := slices.IndexFunc(body["flavors"], func(f thing) bool { return f.Name == "lab.tiny" })
	if n < 0 {
		o.t.Fatal("there is no flavor lab.tiny")
	}
	return body["flavors"][n].ID
}

// isOld fails unless everything is as the other Trove has made it.
func (o *old) isOld() {
	o.t.Helper()
	v := o.get(o.session.Volume, "volumes/"+o.volume, "volume")
	if v.Name != "trove-"+o.id || len(v.Attachments) != 1 || v.Attachments[0].Server != o.server || v.Attachments[0].Device != "/dev/vdb" || len(v.Metadata) != 0 {
		o.t.Errorf("the volume is %+v", v)
	}
	p := o.get(o.session.Network, "ports/"+o.port, "port")
	if p.Device != o.server || p.Name != "trove-"+o.id || p.Description != "User port for trove instance "+o.id || string(p.Groups) != `["`+o.group+`"]` || len(p.Tags) != 0 ||
		p.FixedIPs[0].Address != o.address {
		o.t.Errorf("the port is %+v", p)
	}
	if s := o.get(o.session.Compute, "servers/"+o.server, "server"); s.Status != "ACTIVE" || s.Name != "shop" {
		o.t.Errorf("the server is %+v", s)
	}
}

// TestAnInstanceOfAPythonTroveIsAdopted takes volume and port over into a machine of ours, goes back to the old server, and takes them over for good.
func TestAnInstanceOfAPythonTroveIsAdopted(t *testing.T) {
	o := newOld(t)
	p, ctx := o.provider, t.Context()
	f, err := p.FindForeign(ctx, o.adoption())
	if err != nil || len(f.Problems) > 0 || f.Adopted || f.Server != "shop" || f.VolumeGiB != 1 || !slices.Equal(f.Addresses, []string{o.address}) {
		t.Fatalf("found %+v, %v", f, err)
	}
	o.isOld() // to look changes nothing
	t.Cleanup(func() {
		ctx := context.WithoutCancel(ctx)
		o.until("all to be gone", func() bool { return p.RemoveMachine(ctx, o.id) == nil && p.RemoveNetwork(ctx, o.id) == nil })
	})
	for _, round := range []string{"for a while", "for good"} {
		t.Logf("%s: %q", round, o.carry("the adoption", p.Adopt))
		o.runs()
		if again := o.carry("the adoption again", p.Adopt); len(again) > 0 {
			t.Errorf("what is adopted is adopted again: %q", again)
		}
		if round == "for good" {
			break
		}
		if _, err := p.GiveBack(ctx, o.adoption()); trove.KindOf(err) != trove.KindConflict {
			t.Errorf("given back while the machine runs: %v, want a conflict", err)
		}
		o.until("the machine to be gone", func() bool { return p.RemoveMachine(ctx, o.id) == nil })
		t.Logf("back: %q", o.carry("the way back", p.GiveBack))
		o.isOld()
	}
	t.Logf("finished: %q", o.carry("the end of the adoption", p.FinishAdoption))
	if v := o.get(o.session.Volume, "volumes/"+o.volume, "volume"); v.Status != "in-use" {
		t.Errorf("the volume is %+v after the old server is gone", v)
	}
	var left map[string][]thing
	o.must(o.session.Network, "GET", "ports?description="+"Management%20port%20for%20trove%20instance%20"+o.id, nil, &left)
	if len(left["ports"]) > 0 {
		t.Errorf("left: %+v", left)
	}
	o.must(o.session.Network, "GET", "security-groups?name=trove_sg-"+o.id, nil, &left)
	if len(left["security_groups"]) > 0 {
		t.Errorf("left: %+v", left)
	}
	o.must(o.session.Volume, "GET", "snapshots?volume_id="+o.volume, nil, &left)
	if len(left["snapshots"]) > 0 && left["snapshots"][0].Status != "deleting" {
		t.Errorf("left: %+v", left)
	}
}

// runs makes the machine from what was adopted, and nothing new beside it.
func (o *old) runs() {
	o.t.Helper()
	p, ctx, a := o.provider, o.t.Context(), o.adoption()
	v, err := p.EnsureVolume(ctx, cloud.VolumeSpec{Instance: o.id, Project: o.project, SizeGiB: 1})
	if err != nil || v.ID != o.volume {
		o.t.Fatalf("the volume is %+v, %v; want %s", v, err, o.volume)
	}
	n, err := p.EnsureNetwork(ctx, a.Network)
	if err != nil || !n.Ready || len(n.Addresses) != 1 || n.Addresses[0].Address != o.address {
		o.t.Fatalf("the network is %+v, %v; want the address %s", n, err, o.address)
	}
	if access, open, err := p.Rules(ctx, o.id); err != nil || !slices.Equal(open, []int{3306}) {
		o.t.Errorf("who may reach it: %+v at %v, %v", access, open, err)
	}
	spec := cloud.MachineSpec{
		Instance: o.id, Project: o.project, Name: "shop", ImageID: o.image, Flavor: trove.Flavor{ID: o.flavor(), Name: "lab.tiny", RAM: 64, VCPUs: 1}, BootData: bootData(o.id),
	}
	o.until("the machine", func() bool {
		m, err := p.EnsureMachine(ctx, spec)
		if m.State == cloud.MachineFailed || err != nil && trove.IsPermanent(err) {
			o.t.Fatalf("the machine is %+v, %v", m, err)
		}
		return err == nil && m.State == cloud.MachineRunning
	})
	if s := o.get(o.session.Compute, "servers/"+o.server, "server"); s.Status != "SHUTOFF" {
		o.t.Errorf("the old server is %s", s.Status)
	}
	if port := o.get(o.session.Network, "ports/"+o.port, "port"); port.Device == "" || port.Device == o.server || strings.Contains(string(port.Groups), o.group) {
		o.t.Errorf("the port is %+v", port)
	}
}
