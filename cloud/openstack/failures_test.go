package openstack_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/openstack"
	"github.com/trove-dbaas/trove/cloud/openstack/openstacktest"
)

func TestServersThatFailHaveANamedReason(t *testing.T) {
	for name, c := range map[string]struct {
		knob func(*openstacktest.Knobs)
		want string
		anew int
	}{
		"no host":    {func(k *openstacktest.Knobs) { k.NoValidHost = true }, "Nova found no host that has room for it (No valid host was found.", 1},
		"no binding": {func(k *openstacktest.Knobs) { k.NoBinding = true }, "Neutron could not bind the port trove-", 3},
		"not built":  {func(k *openstacktest.Knobs) { k.NotBuilt = 1 }, "). Neutron does not hear of its Open vSwitch agent on the host c7, and binds no port to it", 3},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			b.c.Set(c.knob)
			m := b.made()
			if m.State != cloud.MachineFailed || !strings.Contains(m.Reason, c.want) || !strings.Contains(m.Reason, m.ID) || m.Anew != c.anew {
				t.Errorf("it is %s: %s", m.State, m.Reason)
			}
			b.removed()
		})
	}
}

func TestAServerFailsAMomentBeforeNovaSaysWhy(t *testing.T) {
	b := newBed(t)
	_, err := b.p.EnsureNetwork(t.Context(), b.network())
	b.must(err)
	_, err = b.p.EnsureVolume(t.Context(), b.volume(1))
	b.must(err)
	b.c.Set(func(k *openstacktest.Knobs) { k.Looks = 1000 })
	m, err := b.p.EnsureMachine(t.Context(), b.machine())
	if err != nil || m.State != cloud.MachinePending {
		t.Fatalf("it is %s: %v", m.State, err)
	}
	b.c.Change("servers", "trove-"+b.id, func(s openstacktest.Object) { s["status"], s["OS-EXT-STS:task_state"] = "ERROR", "" })
	said := time.AfterFunc(400*time.Millisecond, func() {
		b.c.Change("servers", "trove-"+b.id, func(s openstacktest.Object) { s["fault"] = openstacktest.Object{"message": "No valid host was found."} })
	})
	defer said.Stop()
	m, err = b.p.FindMachine(t.Context(), b.id)
	if err != nil || m.State != cloud.MachineFailed || !strings.Contains(m.Reason, "Nova found no host that has room for it") {
		t.Errorf("it is %s: %s: %v", m.State, m.Reason, err)
	}
}

func TestAVolumeThatFailsSaysWhatCinderSays(t *testing.T) {
	b := newBed(t)
	b.c.Set(func(k *openstacktest.Knobs) { k.VolumeError = true })
	_, err := b.p.EnsureVolume(t.Context(), b.volume(1))
	b.must(err)
	v, err := b.p.EnsureVolume(t.Context(), b.volume(1))
	if err != nil || v.Ready || !strings.Contains(v.Failed, "weighted backend (request req-cinder)") {
		t.Errorf("%+v, %v", v, err)
	}
	b.removed()
}

// The blocks of an encrypted volume that nobody wrote are noise to the guest, which would take it for somebody's data until the create is given up.
func TestANewVolumeThatIsEncryptedIsRefusedAtOnce(t *testing.T) {
	b := newBed(t)
	b.c.Set(func(k *openstacktest.Knobs) { k.Encrypted = true })
	for range 3 { // it is begun early, where nobody hears of it, and may be available when it is asked for again
		v, err := b.p.EnsureVolume(t.Context(), b.volume(1))
		if err != nil || v.Ready || !strings.Contains(v.Failed, "is encrypted") || !strings.Contains(v.Failed, "Choose another volume type") {
			t.Errorf("%+v, %v", v, err)
		}
	}
	if v, err := b.p.FindVolume(t.Context(), b.id); err != nil || v.Ready || v.Failed == "" {
		t.Errorf("%+v, %v", v, err)
	}
	b.c.Set(func(k *openstacktest.Knobs) { k.Encrypted = false })
	b.removed()
}

// One that has data, of an instance that was taken over or whose type was changed since, is as any other, also while it is between two machines.
func TestAnEncryptedVolumeWithDataIsUsed(t *testing.T) {
	b := newBed(t)
	b.made()
	b.c.Change("volumes", "trove-"+b.id, func(o openstacktest.Object) { o["encrypted"] = true })
	for _, step := range []func() error{func() error { return b.p.RemoveMachine(t.Context(), b.id) }, func() error { return nil }} {
		if v, err := b.p.EnsureVolume(t.Context(), b.volume(1)); err != nil || !v.Ready || v.Failed != "" {
			t.Errorf("%+v, %v", v, err)
		}
		b.must(step())
	}
	b.removed()
}

func TestAVolumeThatCannotGrowStaysUsable(t *testing.T) {
	b := newBed(t)
	b.made()
	b.c.Set(func(k *openstacktest.Knobs) { k.NoExtend = true })
	_, err := b.p.EnsureVolume(t.Context(), b.volume(2))
	b.must(err)
	v, err := b.p.EnsureVolume(t.Context(), b.volume(2))
	if err != nil || !strings.Contains(v.Failed, "not grown") {
		t.Errorf("%+v, %v", v, err)
	}
	if v, err := b.p.FindVolume(t.Context(), b.id); err != nil || !v.Ready || v.SizeGiB != 1 {
		t.Errorf("afterwards %+v, %v", v, err)
	}
	b.c.Set(func(k *openstacktest.Knobs) { k.NoExtend = false })
	for range 2 {
		v, err = b.p.EnsureVolume(t.Context(), b.volume(2))
		b.must(err)
	}
	if !v.Ready || v.SizeGiB != 2 {
		t.Errorf("grown to %+v", v)
	}
	b.removed()
}

func TestAResizeThatFindsNoHostIsSaidOnceAndMayBeTriedAgain(t *testing.T) {
	b := newBed(t)
	b.made()
	large := trove.Flavor{ID: "3", Name: "db.large", RAM: 2048, VCPUs: 2}
	b.c.Set(func(k *openstacktest.Knobs) { k.NoResize = true })
	_, err := b.p.ResizeMachine(t.Context(), b.id, large)
	b.must(err)
	if _, err = b.p.ResizeMachine(t.Context(), b.id, large); !trove.IsPermanent(err) || !strings.Contains(trove.MessageOf(err), "could not resize") {
		t.Errorf("got %v", err)
	}
	b.c.Set(func(k *openstacktest.Knobs) { k.NoResize = false })
	for range 3 {
		_, err = b.p.ResizeMachine(t.Context(), b.id, large)
		b.must(err)
	}
	if m, err := b.p.FindMachine(t.Context(), b.id); err != nil || m.FlavorID != "3" || m.State != cloud.MachineRunning {
		t.Errorf("it is %+v, %v", m, err)
	}
	b.removed()
}

func TestWhatIsWrongWithARequestIsPermanent(t *testing.T) {
	b := newBed(t)
	_, err := b.p.EnsureNetwork(t.Context(), b.network())
	b.must(err)
	taken := b.c.Objects("ports")[0]["fixed_ips"].([]any)[0].(map[string]any)["ip_address"].(string)
	other := b.network()
	other.Instance, other.NICs = trove.NewID(), []trove.NIC{{NetworkID: openstacktest.Network, IPAddress: taken}}
	_, err = b.p.EnsureNetwork(t.Context(), other)
	if trove.KindOf(err) != trove.KindBadRequest || trove.MessageOf(err) != "The address "+taken+" is in use." {
		t.Errorf("an address that is taken: %v", err)
	}
	b.c.Set(func(k *openstacktest.Knobs) { k.Ports = 2 })
	full := b.network()
	full.Instance = trove.NewID()
	_, err = b.p.EnsureNetwork(t.Context(), full)
	if trove.KindOf(err) != trove.KindOverLimit || !strings.Contains(trove.MessageOf(err), "(request req-") {
		t.Errorf("a quota that is used up: %v", err)
	}
	b.c.Set(func(k *openstacktest.Knobs) { k.Ports, k.NoRouter = 0, true })
	public := b.network()
	public.Access.IsPublic = true
	_, err = b.p.EnsureNetwork(t.Context(), public)
	if trove.KindOf(err) != trove.KindBadRequest || !strings.Contains(trove.MessageOf(err), "no router to the public network") {
		t.Errorf("a network that leads nowhere: %v", err)
	}
}

// Nova begins both sentences alike: that a volume is taken passes, that it is in another zone does not.
func TestAVolumeInAnotherZoneIsTakenForOneThatAnotherServerHas(t *testing.T) {
	b := newBed(t)
	_, err := b.p.EnsureNetwork(t.Context(), b.network())
	b.must(err)
	_, err = b.p.EnsureVolume(t.Context(), b.volume(1))
	b.must(err)
	b.c.Break(openstacktest.Fault{Method: http.MethodPost, Path: "/compute/v2.1/servers", Status: http.StatusBadRequest, Body: `{"badRequest": {"code": 400, "message":
		"Invalid volume: Instance 1 and volume 2 are not in the same availability_zone. Instance is in az2. Volume is in nova"}}`})
	_, err = b.p.EnsureMachine(t.Context(), b.machine())
	if !trove.IsPermanent(err) || trove.KindOf(err) != trove.KindBadRequest || !strings.Contains(trove.MessageOf(err), "Instance is in az2. Volume is in nova") {
		t.Errorf("%v", err)
	}
}

// Where Nova lets a server have volumes of its own zone alone, all of them have to be made there, the one for an upgrade too.
func TestVolumesAreInAnotherZoneThanTheirServers(t *testing.T) {
	for _, c := range []struct {
		on            bool
		wanted, usual string
		want          []any
	}{
		{true, "az2", "az1", []any{"az2", "az2"}},
		{true, "az2:compute-7", "", []any{"az2", "az2"}},
		{true, "", "az1", []any{"az1", "az1"}},
		{true, "", "", []any{nil, nil}},
		{false, "az2", "az1", []any{nil, nil}},
	} {
		b := newBed(t)
		b.p = open(t, b.c, func(cfg *openstack.Config) { cfg.Zone, cfg.VolumeInZone = c.usual, c.on })
		_, err := b.p.EnsureNetwork(t.Context(), b.network())
		b.must(err)
		v := b.volume(1)
		v.Zone = c.wanted
		_, err = b.p.EnsureVolume(t.Context(), v)
		b.must(err)
		s := b.machine()
		s.Zone, s.PreviousImageID = c.wanted, openstacktest.OldImage
		_, err = b.p.EnsureMachine(t.Context(), s)
		b.must(err)
		var zones []any
		for _, r := range b.c.Requests() {
			var body struct{ Volume map[string]any }
			if r.Method == http.MethodPost && strings.HasSuffix(r.Path, "/volumes") {
				b.must(json.Unmarshal([]byte(r.Body), &body))
				zones = append(zones, body.Volume["availability_zone"])
			}
		}
		if diff := cmp.Diff(c.want, zones); diff != "" {
			t.Errorf("%+v: %s", c, diff)
		}
	}
}

func TestAServiceThatIsAwayIsWaitedFor(t *testing.T) {
	b := newBed(t)
	b.made()
	for name, path := range map[string]string{"Nova": "/compute", "Cinder": "/volume", "Neutron": "/network"} {
		mend := b.c.Break(openstacktest.Fault{Path: path, Status: http.StatusServiceUnavailable})
		_, err1 := b.p.FindMachine(t.Context(), b.id)
		_, err2 := b.p.FindVolume(t.Context(), b.id)
		_, err3 := b.p.FindNetwork(t.Context(), b.id)
		mend()
		failed := 0
		for _, err := range []error{err1, err2, err3} {
			if err == nil {
				continue
			}
			failed++
			if trove.IsPermanent(err) || trove.IsNotFound(err) || !strings.Contains(trove.MessageOf(err), name) {
				t.Errorf("%s is away: %v", name, err)
			}
		}
		if failed != 1 {
			t.Errorf("%s is away: %v, %v, %v", name, err1, err2, err3)
		}
	}
	b.c.ExpireTokens()
	if _, err := b.p.FindMachine(t.Context(), b.id); err != nil || b.c.Logins() != 2 {
		t.Errorf("after the token's end: %v, %d logins", err, b.c.Logins())
	}
}

func TestNovaThatCannotReadAnImageIsToldFromOneThatIsAway(t *testing.T) {
	b := newBed(t)
	_, err := b.p.EnsureNetwork(t.Context(), b.network())
	b.must(err)
	_, err = b.p.EnsureVolume(t.Context(), b.volume(1))
	b.must(err)
	broken := b.c.Break(openstacktest.Fault{Method: http.MethodPost, Path: "/compute/v2.1/servers", Status: http.StatusInternalServerError})
	without := b.c.Break(openstacktest.Fault{Path: "/image", Status: http.StatusServiceUnavailable})
	_, err = b.p.EnsureMachine(t.Context(), b.machine())
	if m := trove.MessageOf(err); trove.IsPermanent(err) || !strings.Contains(m, "Glance cannot do this at the moment") || !strings.Contains(m, "Nova cannot do this at the moment: it answered 500") {
		t.Errorf("Glance is away: %v", err)
	}
	without()
	_, err = b.p.EnsureMachine(t.Context(), b.machine())
	if m := trove.MessageOf(err); trove.IsPermanent(err) || strings.Contains(m, "Glance") || !strings.Contains(m, "Nova cannot do this at the moment: it answered 500") {
		t.Errorf("Nova is away: %v", err)
	}
	broken()
	if m := b.made(); m.State != cloud.MachineRunning {
		t.Errorf("when both are back the server is %s: %s", m.State, m.Reason)
	}
}
