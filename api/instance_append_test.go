package api //nolint:testpackage // compares two ways of writing that no caller can choose between

import (
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/internal/clock"
)

func anyInstance(t *rapid.T) trove.Instance {
	text := rapid.String()
	task := rapid.SampledFrom([]trove.Task{trove.TaskNone, trove.TaskBuilding, trove.TaskDeleting, trove.TaskBuildErrorServer})
	i := trove.Instance{
		ID: trove.NewID(), ProjectID: "p" + text.Draw(t, "project"), Name: text.Draw(t, "name"), Task: task.Draw(t, "task"), ServerStatus: trove.ServerActive,
		DatastoreVersionID: rapid.SampledFrom([]string{"v", "gone"}).Draw(t, "version"), FlavorID: text.Draw(t, "flavor"),
		VolumeSize: rapid.IntRange(0, 3).Draw(t, "size"), Region: text.Draw(t, "region"),
		Hostname:  rapid.SampledFrom([]string{"", "", "db.example"}).Draw(t, "hostname"),
		ReplicaOf: rapid.SampledFrom([]string{"", "primary"}).Draw(t, "primary"),
		Access:    trove.Access{IsPublic: rapid.Bool().Draw(t, "public"), AllowedCIDRs: rapid.SliceOfN(text, 0, 2).Draw(t, "cidrs")},
		Guest:     trove.GuestState{Service: trove.ServiceHealthy},
	}
	for range rapid.IntRange(0, 2).Draw(t, "addresses") {
		i.Addresses = append(i.Addresses, trove.Address{Address: text.Draw(t, "address"), Type: "private", Network: text.Draw(t, "network"), Port: rapid.IntRange(0, 65535).Draw(t, "port")})
	}
	return i
}

// What a page writes by itself is what encoding/json makes of the wire types.
func TestAppendedLikeMarshalled(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := &server{cfg: Config{Clock: clock.NewManual(now), Log: slog.New(slog.DiscardHandler)}}
	s.versions.loaded = now
	s.versions.byID = map[string]trove.DatastoreVersion{"v": {ID: "v", DatastoreName: "mariadb", Name: "10.11"}, "gone": {}}
	rapid.Check(t, func(t *rapid.T) {
		c := &call{project: "p", base: "https://db.example", admin: rapid.Bool().Draw(t, "admin")}
		p := instancePage{call: c, now: now, versions: s.versions.byID, replicas: map[string][]string{}}
		want := wire.InstanceList{Instances: []wire.Instance{}}
		for range rapid.IntRange(0, 3).Draw(t, "instances") {
			i := anyInstance(t)
			p.replicas[i.ID] = rapid.SliceOfN(rapid.String(), 0, 2).Draw(t, "replicas")
			p.found = append(p.found, i)
			v, err := s.viewInstance(t.Context(), c, &i, p.replicas[i.ID], view{})
			if err != nil {
				t.Fatal(err)
			}
			if i.DatastoreVersionID == "gone" {
				v.Datastore = wire.DatastoreRef{}
			}
			want.Instances = append(want.Instances, v)
		}
		if rapid.Bool().Draw(t, "next") {
			p.next = []wire.Link{{Href: rapid.String().Draw(t, "href"), Rel: "next"}}
			want.Links, want.InstancesLinks = p.next, p.next
		}
		expected, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var a, b any
		if err := json.Unmarshal(expected, &a); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(p.appendJSON(nil), &b); err != nil {
			t.Fatalf("%v: %s", err, p.appendJSON(nil))
		}
		if diff := cmp.Diff(a, b); diff != "" {
			t.Fatal(diff)
		}
	})
}
