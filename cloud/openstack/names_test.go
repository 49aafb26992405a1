package openstack_test

import (
	"net/http"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/openstack"
	"github.com/trove-dbaas/trove/internal/openstacktest"
)

const zoneName = "db.example.org."

func newNames(t *testing.T, c *openstacktest.Cloud) *openstack.Names {
	t.Helper()
	n, err := openstack.NewNames(c.Session(t), "db.example.org")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func address(text, kind string) trove.Address { return trove.Address{Address: text, Type: kind} }

func TestNames(t *testing.T) {
	c := openstacktest.New(t, "admin")
	n, id := newNames(t, c), trove.NewID()
	private := []trove.Address{address("10.1.0.7", "private"), address("10.2.0.7", "private"), address("fd00::7", "private")}
	if _, err := n.EnsureName(t.Context(), id, private); !trove.IsNotFound(err) {
		t.Errorf("without a zone: %v", err)
	}
	if err := n.RemoveName(t.Context(), id); err != nil {
		t.Errorf("removed without a zone: %v", err)
	}
	c.AddZone("another project", "example.org.")
	c.AddZone(openstacktest.ServiceProject, zoneName)
	set := func(family string, records ...string) openstacktest.RecordSet {
		return openstacktest.RecordSet{Name: id + "." + zoneName, Type: family, Records: records, TTL: 300, Description: "instance " + id + " of Trove", Status: "PENDING"}
	}
	for _, step := range []struct {
		what      string
		addresses []trove.Address
		want      []openstacktest.RecordSet
	}{
		{"private", private, []openstacktest.RecordSet{set("A", "10.1.0.7", "10.2.0.7"), set("AAAA", "fd00::7")}},
		{"once more", private, []openstacktest.RecordSet{set("A", "10.1.0.7", "10.2.0.7"), set("AAAA", "fd00::7")}},
		{"public", append(private, address("172.24.4.9", "public")), []openstacktest.RecordSet{set("A", "172.24.4.9")}},
		{"another process", []trove.Address{address("fd00::8", "private")}, []openstacktest.RecordSet{set("AAAA", "fd00::8")}},
	} {
		if step.what == "another process" {
			n = newNames(t, c)
		}
		name, err := n.EnsureName(t.Context(), id, step.addresses)
		if err != nil || name != id+".db.example.org" {
			t.Errorf("%s: %q, %v", step.what, name, err)
		}
		if diff := cmp.Diff(step.want, c.RecordSets(zoneName), cmpopts.IgnoreFields(openstacktest.RecordSet{}, "ID", "ZoneID")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.what, diff)
		}
	}
	other := trove.NewID()
	if _, err := n.EnsureName(t.Context(), other, private); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := n.RemoveName(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	if left := c.RecordSets(zoneName); len(left) != 2 || left[0].Name != other+"."+zoneName {
		t.Errorf("left %+v, want what the other instance has", left)
	}
	for _, bad := range []string{"", "x", "../" + id} {
		if _, err := n.EnsureName(t.Context(), bad, private); trove.KindOf(err) != trove.KindBadRequest {
			t.Errorf("instance %q: %v", bad, err)
		}
	}
	if _, err := n.EnsureName(t.Context(), id, nil); trove.KindOf(err) != trove.KindBadRequest {
		t.Errorf("without addresses: %v", err)
	}
}

func TestNamesOfOthersStay(t *testing.T) {
	c := openstacktest.New(t, "admin")
	c.AddZone(openstacktest.ServiceProject, zoneName)
	n, id := newNames(t, c), trove.NewID()
	if _, err := n.EnsureName(t.Context(), id, []trove.Address{address("10.1.0.7", "private")}); err != nil {
		t.Fatal(err)
	}
	c.Describe(zoneName, "by hand")
	if _, err := n.EnsureName(t.Context(), id, []trove.Address{address("10.1.0.8", "private")}); trove.KindOf(err) != trove.KindConflict {
		t.Errorf("what is not ours: %v, want a conflict", err)
	}
	if err := n.RemoveName(t.Context(), id); err != nil {
		t.Error(err)
	}
	if left := c.RecordSets(zoneName); len(left) != 1 || left[0].Records[0] != "10.1.0.7" {
		t.Errorf("left %+v", left)
	}
}

func TestNamesAtOnceAndWithoutDesignate(t *testing.T) {
	c := openstacktest.New(t, "admin")
	c.AddZone(openstacktest.ServiceProject, zoneName)
	id, at := trove.NewID(), []trove.Address{address("10.1.0.7", "private")}
	var all sync.WaitGroup
	for range 4 {
		n := newNames(t, c)
		all.Go(func() {
			if _, err := n.EnsureName(t.Context(), id, at); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := c.RecordSets(zoneName); len(got) != 1 {
		t.Errorf("%d record sets", len(got))
	}
	n := newNames(t, c)
	c.Away("Designate", true)
	if _, err := n.EnsureName(t.Context(), id, at); trove.KindOf(err) != trove.KindUnavailable || trove.IsPermanent(err) {
		t.Errorf("without Designate: %v", err)
	}
	if err := n.RemoveName(t.Context(), id); trove.KindOf(err) != trove.KindUnavailable {
		t.Errorf("removed without Designate: %v", err)
	}
	c.Away("Designate", false)
	c.FailNext("Designate", http.MethodGet, http.StatusServiceUnavailable)
	if err := n.RemoveName(t.Context(), id); err != nil {
		t.Errorf("with a Designate that was away for a moment: %v", err)
	}
	if got := c.RecordSets(zoneName); len(got) != 0 {
		t.Errorf("left %+v", got)
	}
}
