package openstack_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/openstack/openstacktest"
)

// placed makes everything of the instance, whose machine is of the set of a primary with others.
func (b *bed) placed(p cloud.Policy, primary string, peers ...string) (cloud.Machine, error) {
	b.Helper()
	_, err := b.p.EnsureNetwork(b.Context(), b.network())
	b.must(err)
	_, err = b.p.EnsureVolume(b.Context(), b.volume(1))
	b.must(err)
	s := b.machine()
	s.Group = cloud.Group{ID: primary, Policy: p, Peers: peers}
	return b.p.EnsureMachine(b.Context(), s)
}

// another is another instance in the same cloud.
func (b *bed) another() *bed { return &bed{T: b.T, c: b.c, p: b.p, id: trove.NewID()} }

func (b *bed) hosted() string {
	b.Helper()
	host, err := b.p.MachineHost(b.Context(), b.id)
	b.must(err)
	return host
}

// count returns how many requests were made of a method and path.
func (b *bed) count(method, path string) (n int) {
	for _, r := range b.c.Requests() {
		if r.Method == method && strings.HasPrefix(r.Path, path) {
			n++
		}
	}
	return n
}

// listed returns how often all server groups were asked for.
func (b *bed) listed() (n int) {
	for _, r := range b.c.Requests() {
		if r.Method == http.MethodGet && r.Path == novaGroups {
			n++
		}
	}
	return n
}

const novaGroups = "/compute/v2.1/os-server-groups"

func TestAReplicaJoinsTheServerGroupOfItsPrimary(t *testing.T) {
	a := newBed(t)
	b := a.another()
	_, err := a.placed(cloud.AntiAffinity, a.id)
	a.must(err)
	before := a.listed()
	_, err = b.placed(cloud.AntiAffinity, a.id, a.id)
	a.must(err)
	groups := a.c.Objects("groups")
	if len(groups) != 1 || groups[0]["name"] != "trove-"+a.id || groups[0]["policy"] != "anti-affinity" || len(groups[0]["members"].([]any)) != 2 {
		t.Fatalf("there are %v", groups)
	}
	if a.hosted() == b.hosted() {
		t.Errorf("both are on %s", a.hosted())
	}
	for _, r := range a.c.Requests() {
		if r.Method == http.MethodPost && r.Path == "/compute/v2.1/servers" && !strings.Contains(r.Body, `"os:scheduler_hints":{"group":"`+groups[0]["id"].(string)+`"}`) {
			t.Errorf("a server was made without its group: %s", r.Body)
		}
	}
	if n := a.listed() - before; n > 0 { // the primary's server knows its group
		t.Errorf("all groups were listed %d times for a replica", n)
	}
	a.removed2(b)
}

// removed2 removes two instances and checks that nothing is left.
func (b *bed) removed2(other *bed) {
	b.Helper()
	b.must(b.p.RemoveMachine(b.Context(), b.id))
	b.must(b.p.RemoveVolume(b.Context(), b.id))
	b.must(b.p.RemoveNetwork(b.Context(), b.id))
	other.removed()
}

func TestWithoutALocalityNothingIsAskedOfServerGroups(t *testing.T) {
	b := newBed(t)
	b.made()
	b.removed()
	if n := b.count("GET", novaGroups) + b.count("POST", novaGroups); n > 1 { // the check that nothing is left
		t.Errorf("%d requests", n)
	}
}

func TestAMachineThatCannotBeApartSaysSo(t *testing.T) {
	a := newBed(t)
	a.c.Set(func(k *openstacktest.Knobs) { k.Hosts = []string{"host1"} })
	b := a.another()
	_, err := a.placed(cloud.AntiAffinity, a.id)
	a.must(err)
	m, err := b.placed(cloud.AntiAffinity, a.id, a.id)
	b.must(err)
	const want = "Nova found no host that has room for it, and the instance has the locality anti-affinity, so that no host of the others of its set will do (No valid host was found."
	if m.State != cloud.MachineFailed || !strings.HasPrefix(m.Reason, want) || !strings.Contains(m.Reason, m.ID) {
		t.Errorf("it is %s: %s", m.State, m.Reason)
	}
	a.removed2(b)
}

func TestAGroupThatWasMadeForNothingIsFoundAndRemoved(t *testing.T) {
	for name, f := range map[string]openstacktest.Fault{
		"the server is refused":          {Method: http.MethodPost, Path: "/compute/v2.1/servers", Status: http.StatusForbidden, Body: `{"forbidden":{"message":"Quota exceeded for cores"}}`},
		"Nova is away":                   {Method: http.MethodPost, Path: "/compute/v2.1/servers", Status: http.StatusServiceUnavailable},
		"the reply of the group is lost": {Method: http.MethodPost, Path: novaGroups, Lost: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			mend := b.c.Break(f)
			if _, err := b.placed(cloud.Affinity, b.id); err == nil {
				t.Fatal("it was made")
			}
			if n := len(b.c.Objects("groups")); n != 1 {
				t.Fatalf("%d groups: this tests nothing", n)
			}
			empty, err := b.p.EmptyGroups(t.Context())
			if err != nil || !slices.Equal(empty, []string{b.id}) {
				t.Errorf("empty are %v, %v", empty, err)
			}
			mend()
			_, err = b.placed(cloud.Affinity, b.id)
			b.must(err)
			if n := len(b.c.Objects("groups")); n != 1 {
				t.Errorf("%d groups after another try", n)
			}
			b.must(b.p.RemoveMachine(t.Context(), b.id))
			_, err = b.p.EmptyGroups(t.Context())
			b.must(err)
			// Another one, whose create is given up.
			b.c.Break(f)
			_, _ = b.placed(cloud.Affinity, b.id)
			b.must(b.p.RemoveMachine(t.Context(), b.id))
			b.must(b.p.RemoveGroup(t.Context(), b.id))
			b.removed()
		})
	}
}

func TestAQuotaOfServerGroupsThatIsUsedUp(t *testing.T) {
	a := newBed(t)
	a.c.Set(func(k *openstacktest.Knobs) { k.ServerGroups = 1 })
	b := a.another()
	_, err := a.placed(cloud.Affinity, a.id)
	a.must(err)
	if _, err := b.placed(cloud.Affinity, b.id); trove.KindOf(err) != trove.KindOverLimit || !strings.Contains(trove.MessageOf(err), "too many server groups") {
		t.Errorf("got %v", err)
	}
}

func TestTheLastTwoOfAGroupMayGoAtOnce(t *testing.T) {
	a := newBed(t)
	b := a.another()
	_, err := a.placed(cloud.Affinity, a.id)
	a.must(err)
	_, err = b.placed(cloud.Affinity, a.id, a.id)
	a.must(err)
	a.c.Set(func(k *openstacktest.Knobs) { k.Looks = 3 }) // both are still there when the other one looks
	var wg sync.WaitGroup
	for _, each := range []*bed{{T: t, c: a.c, p: open(t, a.c), id: a.id}, {T: t, c: a.c, p: open(t, a.c), id: b.id}} {
		wg.Go(func() {
			if err := each.p.RemoveMachine(t.Context(), each.id); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	a.removed2(b)
}

func TestAKillWhileTheLastMachineIsRemovedLeavesNoGroup(t *testing.T) {
	b := newBed(t)
	_, err := b.placed(cloud.Affinity, b.id)
	b.must(err)
	// Nova takes the delete of the server, and whoever asked for it is not there any more.
	b.c.Break(openstacktest.Fault{Method: http.MethodDelete, Path: "/compute/v2.1/servers", Lost: true, Times: 1})
	for range 10 {
		if err := b.p.RemoveMachine(t.Context(), b.id); err == nil {
			break
		}
		if n := len(b.c.Objects("groups")); n > 0 {
			t.Fatal("the group is still there when its server may be gone")
		}
	}
	b.removed()
}

func TestAGroupThatSomebodyHasRemovedIsMadeAgain(t *testing.T) {
	a := newBed(t)
	b := a.another()
	_, err := a.placed(cloud.Affinity, a.id)
	a.must(err)
	lost := a.c.Objects("groups")[0]["id"].(string)
	a.c.Drop("groups", lost)
	_, err = b.placed(cloud.Affinity, a.id, a.id)
	b.must(err)
	if groups := a.c.Objects("groups"); len(groups) != 1 || groups[0]["id"] == lost {
		t.Errorf("groups %v", groups)
	}
	a.removed2(b)
}

func TestAGroupThatGoesJustBeforeTheServerIsMadeAgainByTheNextTry(t *testing.T) {
	b := newBed(t)
	b.c.Break(openstacktest.Fault{Method: http.MethodPost, Path: "/compute/v2.1/servers", Status: http.StatusInternalServerError, Times: 1})
	if _, err := b.placed(cloud.Affinity, b.id); err == nil {
		t.Fatal("it was made")
	}
	lost := b.c.Objects("groups")[0]["id"].(string)
	b.c.Break(openstacktest.Fault{
		Method: http.MethodPost, Path: "/compute/v2.1/servers", Status: http.StatusBadRequest, Times: 1,
		Body: `{"badRequest":{"message":"Instance group ` + lost + ` could not be found."}}`,
	})
	if _, err := b.placed(cloud.Affinity, b.id); err == nil || trove.IsPermanent(err) {
		t.Errorf("without the group: %v", err)
	}
	b.c.Drop("groups", lost)
	_, err := b.placed(cloud.Affinity, b.id)
	b.must(err)
	b.removed()
}

func TestARebuiltServerIsStillOfItsGroup(t *testing.T) {
	b := newBed(t)
	_, err := b.placed(cloud.Affinity, b.id)
	b.must(err)
	s := b.machine()
	s.ImageID, s.Group = openstacktest.OldImage, cloud.Group{ID: b.id, Policy: cloud.Affinity}
	_, err = b.p.RebuildMachine(t.Context(), s)
	b.must(err)
	metadata, _ := json.Marshal(b.c.Objects("servers")[0]["metadata"])
	if !strings.Contains(string(metadata), b.c.Objects("groups")[0]["id"].(string)) || !strings.Contains(string(metadata), `"trove_locality":"affinity"`) {
		t.Errorf("its metadata is %s", metadata)
	}
	b.removed()
}

func TestAMigrationThatFindsNoHostIsSaidOnceAndMayBeTriedAgain(t *testing.T) {
	a := newBed(t)
	b := a.another()
	_, err := a.placed(cloud.AntiAffinity, a.id)
	a.must(err)
	_, err = b.placed(cloud.AntiAffinity, a.id, a.id)
	b.must(err)
	from := b.hosted()
	m, err := b.p.MigrateMachine(t.Context(), b.id, from, "")
	if err != nil || m.State != cloud.MachinePending {
		t.Fatalf("it is %+v, %v", m, err)
	}
	_, err = b.p.MigrateMachine(t.Context(), b.id, from, "")
	if !trove.IsPermanent(err) || !strings.Contains(trove.MessageOf(err), "could not move the server from "+from) || !strings.Contains(trove.MessageOf(err), "anti-affinity") {
		t.Errorf("got %v", err)
	}
	if m, err := b.p.FindMachine(t.Context(), b.id); err != nil || m.State != cloud.MachineRunning {
		t.Errorf("afterwards it is %+v, %v", m, err)
	}
	b.must(a.p.RemoveMachine(t.Context(), a.id)) // now there is room
	for range 4 {
		m, err = b.p.MigrateMachine(t.Context(), b.id, from, "")
		b.must(err)
	}
	if m.State != cloud.MachineRunning || b.hosted() == from {
		t.Errorf("it is %+v on %s", m, b.hosted())
	}
	a.removed2(b)
}

func TestAMigrationToTheSameHostIsNone(t *testing.T) {
	b := newBed(t)
	b.made()
	b.c.Set(func(k *openstacktest.Knobs) { k.SameHost = true })
	var err error
	for range 4 { // moved, confirmed, looked at
		if _, err = b.p.MigrateMachine(t.Context(), b.id, "host1", ""); err != nil {
			break
		}
	}
	if !trove.IsPermanent(err) || !strings.Contains(trove.MessageOf(err), "moved it to the same host") {
		t.Errorf("got %v", err)
	}
	b.c.Set(func(k *openstacktest.Knobs) { k.SameHost = false })
	for range 4 {
		_, err = b.p.MigrateMachine(t.Context(), b.id, "host1", "")
		b.must(err)
	}
	if b.hosted() != "host2" {
		t.Errorf("it is on %s", b.hosted())
	}
}

func TestWhatStandsInTheWayOfAMigration(t *testing.T) {
	b := newBed(t)
	b.made()
	for host, c := range map[string]struct {
		kind trove.Kind
		want string
	}{"": {trove.KindNotImplemented, "one host"}, "host2": {trove.KindBadRequest, "host2 takes no servers: Nova says that it is disabled and up"}, "controller": {trove.KindBadRequest, "no host controller"}} {
		b.c.Set(func(k *openstacktest.Knobs) { k.Disabled = []string{"host2"} })
		err := b.p.Migratable(t.Context(), host)
		if !trove.IsPermanent(err) || trove.KindOf(err) != c.kind || !strings.Contains(trove.MessageOf(err), c.want) {
			t.Errorf("to %q: %v", host, err)
		}
	}
	b.c.Set(func(k *openstacktest.Knobs) { k.Disabled = nil })
	b.must(b.p.Migratable(t.Context(), ""))
	b.must(b.p.Migratable(t.Context(), "host2"))
}

func TestAMachineThatIsStoppedRunsOnItsNewHost(t *testing.T) {
	b := newBed(t)
	b.made()
	b.must(b.p.StopMachine(t.Context(), b.id))
	var m cloud.Machine
	for range 4 { // moved, confirmed, started
		var err error
		m, err = b.p.MigrateMachine(t.Context(), b.id, "host1", "host2")
		b.must(err)
	}
	if m.State != cloud.MachineRunning || b.hosted() != "host2" {
		t.Errorf("it is %+v on %s", m, b.hosted())
	}
	// Nothing remembers the move: a resize that waits for its confirmation is not taken for one.
	if metadata := b.c.Objects("servers")[0]["metadata"].(map[string]any); metadata["trove_migrate"] != nil {
		t.Errorf("its metadata is %v", metadata)
	}
	b.removed()
}

func TestRepliesOfAMigrationMayBeLost(t *testing.T) {
	b := newBed(t)
	b.made()
	for _, path := range []string{"/action", "/metadata"} {
		server := b.c.Objects("servers")[0]["id"].(string)
		b.c.Break(openstacktest.Fault{Method: http.MethodPost, Path: "/compute/v2.1/servers/" + server + path, Lost: true, Times: 1})
	}
	var m cloud.Machine
	for range 10 {
		var err error
		if m, err = b.p.MigrateMachine(t.Context(), b.id, "host1", ""); err == nil && m.State == cloud.MachineRunning {
			break
		} else if err != nil && trove.IsPermanent(err) {
			t.Fatal(err)
		}
	}
	if m.State != cloud.MachineRunning || b.hosted() != "host2" {
		t.Errorf("it is %+v on %s", m, b.hosted())
	}
	moves := 0
	for _, r := range b.c.Requests() {
		if strings.Contains(r.Body, `{"migrate":`) {
			moves++
		}
	}
	if moves != 1 {
		t.Errorf("it was told %d times to move", moves)
	}
}

func TestHostsOfManyAreAskedForAtOnce(t *testing.T) {
	b := newBed(t)
	b.made()
	before := len(b.c.Requests())
	ids := []string{b.id}
	for range 80 {
		ids = append(ids, trove.NewID())
	}
	got, err := b.p.MachineHosts(t.Context(), ids)
	if err != nil || len(got) != 1 || got[b.id] != "host1" || len(b.c.Requests())-before != 3 {
		t.Errorf("%v, %v with %d requests", got, err, len(b.c.Requests())-before)
	}
}
