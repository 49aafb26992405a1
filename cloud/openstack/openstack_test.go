package openstack_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/cloudtest"
	"github.com/trove-dbaas/trove/cloud/openstack"
	"github.com/trove-dbaas/trove/cloud/openstack/openstacktest"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
	"github.com/trove-dbaas/trove/internal/machinedata"
)

const deployment = "dddddddd-0000-4000-8000-000000000001"

// open returns a provider over the OpenStack.
func open(t *testing.T, c *openstacktest.Cloud, change ...func(*openstack.Config)) *openstack.Provider {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	s, err := osclient.New(t.Context(), osclient.Config{
		AuthURL: c.URL + "/v3", Username: "trove", Project: "service", Region: "RegionOne", Timeout: time.Minute, Log: log,
		Password: func() (trove.Secret, error) { return openstacktest.Password, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	cfg := openstack.Config{
		Session: s, Deployment: deployment, Log: log, ManagementNetwork: "trove-management", ManagementSecurityGroup: "trove-management", IsolateManagement: true,
		PublicNetwork: "public", Wait: 30 * time.Second,
	}
	for _, f := range change {
		f(&cfg)
	}
	p, err := openstack.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSuite(t *testing.T) {
	for name, v := range map[string]struct {
		looks int
		hosts []string
	}{"AtOnceOnOneHost": {0, []string{"host1"}}, "AfterTwoLooksOnThree": {2, []string{"host1", "host2", "host3"}}} {
		t.Run(name, func(t *testing.T) {
			cloudtest.Run(t, func(t *testing.T) cloudtest.Setup {
				c := openstacktest.New(t)
				c.Set(func(k *openstacktest.Knobs) { k.Looks, k.Gigabytes, k.Hosts = v.looks, 1000, v.hosts })
				p := open(t, c)
				return cloudtest.Setup{
					Provider: p, Reopen: func(t *testing.T) cloud.Provider { return open(t, c) }, ImageID: openstacktest.Image, BootData: bootData,
					PoolGiB: 2000, Project: openstacktest.Tenant, Hosts: len(v.hosts),
					Rules: func(t *testing.T, instance string) (trove.Access, []int) {
						access, ports, err := p.Rules(t.Context(), instance)
						if err != nil {
							t.Fatal(err)
						}
						return access, ports
					},
					Leftovers: func(t *testing.T) []string {
						all, err := p.Leftovers(t.Context())
						if err != nil {
							t.Fatal(err)
						}
						return all
					},
				}
			})
		})
	}
}

// bed is an instance that a test makes part by part.
type bed struct {
	*testing.T
	c  *openstacktest.Cloud
	p  *openstack.Provider
	id string
}

func newBed(t *testing.T) *bed {
	c := openstacktest.New(t)
	return &bed{T: t, c: c, p: open(t, c), id: trove.NewID()}
}

func (b *bed) network() cloud.NetworkSpec {
	return cloud.NetworkSpec{Instance: b.id, Project: openstacktest.Tenant, TCPPorts: []int{3306}, NICs: []trove.NIC{{NetworkID: openstacktest.Network}}}
}

func (b *bed) volume(size int) cloud.VolumeSpec {
	return cloud.VolumeSpec{Instance: b.id, Project: openstacktest.Tenant, SizeGiB: size}
}

func (b *bed) machine() cloud.MachineSpec {
	return cloud.MachineSpec{
		Instance: b.id, Project: openstacktest.Tenant, Name: "db1", ImageID: openstacktest.Image, Flavor: trove.Flavor{ID: "1", Name: "db.tiny", RAM: 512, VCPUs: 1},
		BootData: bootData(b.id),
	}
}

func (b *bed) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// made makes everything of the instance.
func (b *bed) made() cloud.Machine {
	b.Helper()
	_, err := b.p.EnsureNetwork(b.Context(), b.network())
	b.must(err)
	_, err = b.p.EnsureVolume(b.Context(), b.volume(1))
	b.must(err)
	m, err := b.p.EnsureMachine(b.Context(), b.machine())
	b.must(err)
	return m
}

// removed removes everything and checks that nothing is left.
func (b *bed) removed() {
	b.Helper()
	b.must(b.p.RemoveMachine(b.Context(), b.id))
	b.must(b.p.RemoveVolume(b.Context(), b.id))
	b.must(b.p.RemoveNetwork(b.Context(), b.id))
	all, err := b.p.Leftovers(b.Context())
	if err != nil || len(all) > 0 {
		b.Errorf("left over: %v, %v", all, err)
	}
}

func TestWhatTheGuestIsTold(t *testing.T) {
	b := newBed(t)
	b.made()
	raw, err := base64.StdEncoding.DecodeString(b.c.Objects("servers")[0]["user_data"].(string))
	b.must(err)
	d, err := machinedata.Parse(raw)
	b.must(err)
	v, err := b.p.FindVolume(t.Context(), b.id)
	b.must(err)
	if d.Boot.Instance != b.id || d.Boot.Token == "" || d.DataVolume != v.ID || d.PreviousVolume != "" || !d.IsolateManagement || len(d.Interfaces) != 2 {
		t.Fatalf("told %+v", d)
	}
	user, management := d.Interfaces[0], d.Interfaces[1]
	if user.Role != machinedata.RoleUser || user.Gateway != "10.1.0.1" || !strings.HasSuffix(user.Addresses[0], "/24") || user.MTU != 1450 || user.Nameservers[0] != "192.0.2.53" {
		t.Errorf("the tenant's interface: %+v", user)
	}
	if management.Role != machinedata.RoleManagement || management.Gateway != "" || len(management.Routes) != 0 || management.MTU != 1500 {
		t.Errorf("the management interface: %+v", management)
	}
	b.removed()
}

func TestControllersElsewhereAreReachedThroughTheManagementGateway(t *testing.T) {
	b := newBed(t)
	_, err := b.p.EnsureNetwork(t.Context(), b.network())
	b.must(err)
	_, err = b.p.EnsureVolume(t.Context(), b.volume(1))
	b.must(err)
	s := b.machine()
	s.BootData = []byte(strings.ReplaceAll(string(s.BootData), "10.77.0.1", "192.0.2.7"))
	_, err = b.p.EnsureMachine(t.Context(), s)
	b.must(err)
	raw, err := base64.StdEncoding.DecodeString(b.c.Objects("servers")[0]["user_data"].(string))
	b.must(err)
	d, err := machinedata.Parse(raw)
	b.must(err)
	if want := []machinedata.Route{{To: "192.0.2.7/32", Via: "10.77.0.1"}}; !slices.Equal(d.Interfaces[1].Routes, want) {
		t.Errorf("routes %v, want %v", d.Interfaces[1].Routes, want)
	}
}

func TestARebuildKeepsAllButTheImageAndBringsANewToken(t *testing.T) {
	b := newBed(t)
	first := b.made()
	before := b.c.Objects("servers")[0]["user_data"]
	s := b.machine()
	s.ImageID, s.PreviousImageID = openstacktest.OldImage, openstacktest.Image
	s.BootData = []byte(strings.ReplaceAll(string(s.BootData), "token-of-", "another-of-"))
	var m cloud.Machine
	for range 5 { // the volume with the previous image is made, attached, and the server rebuilt
		var err error
		m, err = b.p.RebuildMachine(t.Context(), s)
		b.must(err)
	}
	if m.ID != first.ID || m.State != cloud.MachineRunning || m.ImageID != openstacktest.OldImage || m.PreviousImageID != openstacktest.Image || m.BootID == first.BootID {
		t.Fatalf("rebuilt as %+v, before %+v", m, first)
	}
	raw, err := base64.StdEncoding.DecodeString(b.c.Objects("servers")[0]["user_data"].(string))
	b.must(err)
	d, err := machinedata.Parse(raw)
	b.must(err)
	if before == b.c.Objects("servers")[0]["user_data"] || !strings.HasPrefix(d.Boot.Token, "another-of-") || d.PreviousVolume == "" {
		t.Errorf("told %+v", d)
	}
	if n := len(b.c.Objects("volumes")); n != 2 {
		t.Errorf("%d volumes, want 2", n)
	}
	for range 3 {
		_, err := b.p.DropPrevious(t.Context(), b.id)
		b.must(err)
	}
	if m, err := b.p.FindMachine(t.Context(), b.id); err != nil || m.PreviousImageID != "" || len(b.c.Objects("volumes")) != 1 {
		t.Errorf("the previous image is still there: %+v, %v, %v", m, err, b.c.Objects("volumes"))
	}
	b.removed()
}

func TestAResizeGoesBackBeforeItIsConfirmed(t *testing.T) {
	b := newBed(t)
	b.made()
	_, err := b.p.ResizeMachine(t.Context(), b.id, trove.Flavor{ID: "3", RAM: 2048, VCPUs: 2})
	b.must(err)
	for range 2 {
		_, err = b.p.ResizeMachine(t.Context(), b.id, b.machine().Flavor)
		b.must(err)
	}
	if m, err := b.p.FindMachine(t.Context(), b.id); err != nil || m.FlavorID != "1" || m.State != cloud.MachineRunning {
		t.Errorf("it is %+v, %v", m, err)
	}
}

func TestAPublicInstanceHasAnAddressUntilItIsNone(t *testing.T) {
	b := newBed(t)
	s := b.network()
	for _, public := range []bool{true, true, false, false, true} {
		s.Access.IsPublic = public
		n, err := b.p.EnsureNetwork(t.Context(), s)
		b.must(err)
		has := slices.ContainsFunc(n.Addresses, func(a trove.Address) bool { return a.Type == "public" })
		if has != public || len(b.c.Objects("floatingips")) > 1 {
			t.Errorf("public %v: %+v", public, n)
		}
	}
	b.removed()
	if err := open(t, b.c, func(c *openstack.Config) { c.PublicNetwork = "" }).PublicAccess(t.Context()); trove.KindOf(err) != trove.KindBadRequest {
		t.Errorf("without a public network: %v", err)
	}
}

func TestLostRepliesMakeNothingTwice(t *testing.T) {
	b := newBed(t)
	try := func(do func() error) {
		b.Helper()
		for range 10 {
			err := do()
			if err == nil {
				return
			}
			if trove.IsPermanent(err) {
				b.Fatal(err)
			}
		}
		b.Fatal("it fails always")
	}
	for _, path := range []string{
		"/network/v2.0/ports", "/network/v2.0/security-groups", "/network/v2.0/security-group-rules", "/network/v2.0/floatingips", "/volume/v3", "/compute/v2.1/servers",
	} {
		b.c.Break(openstacktest.Fault{Method: http.MethodPost, Path: path, Lost: true, Times: 1})
	}
	b.c.Break(openstacktest.Fault{Method: http.MethodPut, Path: "/network/v2.0", Lost: true, Times: 1})
	public := b.network()
	public.Access.IsPublic = true
	try(func() error { _, err := b.p.EnsureNetwork(b.Context(), public); return err })
	try(func() error { _, err := b.p.EnsureVolume(b.Context(), b.volume(1)); return err })
	try(func() error { _, err := b.p.EnsureMachine(b.Context(), b.machine()); return err })
	for kind, want := range map[string]int{"ports": 2, "security-groups": 2, "floatingips": 1, "volumes": 1, "servers": 1} {
		if got := len(b.c.Objects(kind)); got != want {
			t.Errorf("%d %s, want %d", got, kind, want)
		}
	}
	for _, kind := range []string{"ports", "floatingips"} {
		for _, o := range b.c.Objects(kind) {
			if len(o["tags"].([]any)) != 3 {
				t.Errorf("%s %v has the tags %v", kind, o["name"], o["tags"])
			}
		}
	}
	b.c.Break(openstacktest.Fault{Method: http.MethodDelete, Lost: true, Times: 1})
	try(func() error { return b.p.RemoveMachine(b.Context(), b.id) })
	b.removed()
}

func TestSurplusIsRemovedAndWhatIsInUseIsKept(t *testing.T) {
	b := newBed(t)
	m := b.made()
	v, err := b.p.FindVolume(t.Context(), b.id)
	b.must(err)
	meta := map[string]any{"trove_instance": b.id, "trove_deployment": deployment}
	b.c.Add("volumes", openstacktest.Object{
		"name": "trove-" + b.id, "status": "available", "size": 1.0, "metadata": meta, "attachments": []openstacktest.Object{}, "created_at": "2020-01-01T00:00:00",
	})
	b.c.Add("servers", openstacktest.Object{
		"name": "trove-" + b.id, "status": "ERROR", "metadata": meta, "tags": []any{}, "created": "2020-01-01T00:00:00", "os-extended-volumes:volumes_attached": []openstacktest.Object{},
	})
	again, err := b.p.EnsureMachine(t.Context(), b.machine())
	b.must(err)
	kept, err := b.p.EnsureVolume(t.Context(), b.volume(1))
	b.must(err)
	if again.ID != m.ID || kept.ID != v.ID || len(b.c.Objects("servers")) != 1 || len(b.c.Objects("volumes")) != 1 {
		t.Errorf("kept the server %s of %s and the volume %s of %s; there are %d and %d", again.ID, m.ID, kept.ID, v.ID, len(b.c.Objects("servers")), len(b.c.Objects("volumes")))
	}
	// What another deployment has under the name is none of ours.
	b.c.Add("servers", openstacktest.Object{"name": "trove-" + b.id, "status": "ACTIVE", "metadata": map[string]any{"trove_deployment": "another"}, "tags": []any{}})
	b.must(b.p.RemoveMachine(t.Context(), b.id))
	if n := len(b.c.Objects("servers")); n != 1 {
		t.Errorf("%d servers left, want the other deployment's", n)
	}
}

func TestAVolumeWhoseServerIsGoneIsLetGoOf(t *testing.T) {
	b := newBed(t)
	b.made()
	b.must(b.p.RemoveMachine(t.Context(), b.id))
	b.c.Change("volumes", "trove-"+b.id, func(o openstacktest.Object) {
		o["status"], o["attachments"] = "in-use", []openstacktest.Object{{"server_id": trove.NewID(), "attachment_id": "a1"}}
	})
	b.must(b.p.RemoveVolume(t.Context(), b.id))
	b.made()
	if err := b.p.RemoveVolume(t.Context(), b.id); trove.KindOf(err) != trove.KindConflict {
		t.Errorf("a volume under its server: %v", err)
	}
}

func TestAVolumeThatNovaLeftReservedIsNeverRemoved(t *testing.T) {
	b := newBed(t)
	b.c.Set(func(k *openstacktest.Knobs) { k.NoValidHost, k.Reserved = true, true })
	if m := b.made(); m.State != cloud.MachineFailed {
		t.Fatalf("it is %s", m.State)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := b.p.RemoveVolume(ctx, b.id); err == nil || len(b.c.Objects("volumes")) != 1 {
		t.Errorf("a volume that is reserved for a server that is there: %v", err)
	}
	b.must(b.p.RemoveMachine(t.Context(), b.id))
	if v := b.c.Objects("volumes"); len(v) != 1 || v[0]["status"] != "reserved" {
		t.Fatalf("volumes %v: this tests nothing", v)
	}
	b.removed()
	if all := b.c.Objects("attachments"); len(all) > 0 {
		t.Errorf("left over: %v", all)
	}
}

func TestACallerSeesWhatIsHisAndNothingIsAskedInOurName(t *testing.T) {
	b := newBed(t)
	before := len(b.c.Requests())
	tenant := cloud.Rights{Project: openstacktest.Tenant, Token: openstacktest.TenantUser}
	all, err := b.p.TenantNetworks(t.Context(), tenant)
	b.must(err)
	if len(all) != 1 || all[0].ID != openstacktest.Network || len(all[0].Subnets) != 1 {
		t.Errorf("the tenant sees %+v", all)
	}
	id, err := b.p.NetworkOf(t.Context(), tenant)
	if err != nil || id != openstacktest.Network {
		t.Errorf("his only network is %s: %v", id, err)
	}
	_, err = b.p.Flavors(t.Context(), tenant)
	b.must(err)
	_, err = b.p.VolumeTypes(t.Context(), tenant)
	b.must(err)
	b.c.Add("networks", openstacktest.Object{"name": "second", "project_id": openstacktest.Tenant, "subnets": []string{"s"}, "shared": false, "router:external": false})
	if _, err := b.p.NetworkOf(t.Context(), tenant); trove.KindOf(err) != trove.KindBadRequest || !strings.Contains(trove.MessageOf(err), "2 networks") {
		t.Errorf("of two networks: %v", err)
	}
	for _, r := range b.c.Requests()[before:] {
		if r.Token != openstacktest.TenantUser {
			t.Errorf("%s %s was asked with the token %s", r.Method, r.Path, r.Token)
		}
	}
	if _, err := b.p.Flavors(t.Context(), cloud.Rights{Project: "p", Token: "no-token"}); trove.KindOf(err) != trove.KindUnauthorized {
		t.Errorf("a token that is none: %v", err)
	}
}

func TestACreateAsksFewQuestions(t *testing.T) {
	b := newBed(t)
	b.made()
	count := map[string]int{}
	for _, r := range b.c.Requests() {
		count[strings.SplitN(r.Path, "/", 3)[1]]++
		if r.Method == http.MethodGet && strings.HasSuffix(r.Path, "/detail") && r.Query == "" {
			t.Errorf("%s lists everything", r.Path)
		}
	}
	// What is asked once and remembered is in it: networks, subnets, the security group.
	if count["compute"] > 5 || count["volume"] > 4 || count["network"] > 26 {
		t.Errorf("asked %v", count)
	}
}

func TestCancelledRemovalEnds(t *testing.T) {
	b := newBed(t)
	b.made()
	b.c.Set(func(k *openstacktest.Knobs) { k.Looks = 1000 })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := b.p.RemoveMachine(ctx, b.id); err == nil || trove.IsPermanent(err) {
		t.Errorf("got %v", err)
	}
}

func TestSecretsAreInNoRequestPath(t *testing.T) {
	b := newBed(t)
	b.made()
	for _, r := range b.c.Requests() {
		data, err := json.Marshal(r)
		b.must(err)
		if strings.Contains(string(data), openstacktest.Password) || strings.Contains(r.Path+r.Query, "token-of-") {
			t.Errorf("%s %s has a secret", r.Method, r.Path)
		}
	}
}
