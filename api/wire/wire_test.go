package wire_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trove-dbaas/trove/api/wire"
)

func TestTime(t *testing.T) {
	at := time.Date(2026, 8, 14, 12, 20, 30, 999, time.FixedZone("", 7200))
	for want, v := range map[string]wire.Time{`"2026-08-14T10:20:30"`: wire.Time(at), "null": {}} {
		got, err := json.Marshal(v)
		if err != nil || string(got) != want {
			t.Errorf("%s %v, want %s", got, err, want)
		}
	}
	for text, want := range map[string]time.Time{
		`"2026-08-14T10:20:30"`:       time.Date(2026, 8, 14, 10, 20, 30, 0, time.UTC),
		`"2026-08-14T10:20:30.5Z"`:    time.Date(2026, 8, 14, 10, 20, 30, 5e8, time.UTC),
		`"2026-08-14T10:20:30+02:00"`: time.Date(2026, 8, 14, 8, 20, 30, 0, time.UTC),
		"null":                        {},
	} {
		var got wire.Time
		if err := json.Unmarshal([]byte(text), &got); err != nil || !time.Time(got).Equal(want) {
			t.Errorf("%s: %v %v", text, time.Time(got), err)
		}
	}
	for _, text := range []string{`"yesterday"`, "5", `""`} {
		var got wire.Time
		if err := json.Unmarshal([]byte(text), &got); err == nil {
			t.Errorf("%s was taken", text)
		}
	}
}

func TestRefAndSize(t *testing.T) {
	var got struct {
		Ref  wire.Ref
		Size wire.Size
	}
	for text, want := range map[string]string{
		`{"Ref":"2","Size":"5"}`:   `{"Ref":"2","Size":5}`,
		`{"Ref":2,"Size":5}`:       `{"Ref":"2","Size":5}`,
		`{"Ref":null,"Size":null}`: `{"Ref":"2","Size":5}`,
	} {
		got.Ref, got.Size = "2", 5
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if out, err := json.Marshal(got); err != nil || (string(out) != want && text != `{"Ref":null,"Size":null}`) {
			t.Errorf("%s: %s %v", text, out, err)
		}
	}
	for _, text := range []string{`{"Size":"x"}`, `{"Size":1.5}`, `{"Ref":[]}`, `{"Ref":true}`} {
		if err := json.Unmarshal([]byte(text), &got); err == nil {
			t.Errorf("%s was taken", text)
		}
	}
}

// A client reads what the server wrote: keys with null and absent keys come back as they were.
func TestInstanceRoundTrip(t *testing.T) {
	server, percent, name := wire.Nullable(""), 12.5, "mariadb"
	public := false
	want := wire.InstanceBody{Instance: wire.Instance{
		ID: "i", Links: []wire.Link{{Href: "h", Rel: "self"}}, Flavor: wire.FlavorRef{ID: "2", Links: []wire.Link{}},
		Datastore: wire.DatastoreRef{Type: &name, Version: &name}, Access: wire.Access{IsPublic: &public},
		Volume: &wire.Volume{Size: 1, UsedPercent: &percent}, ServerID: &server,
	}}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var keys struct{ Instance map[string]any }
	if err := json.Unmarshal(data, &keys); err != nil {
		t.Fatal(err)
	}
	for _, absent := range []string{"volume_id", "replica_of", "replicas", "fault", "configuration", "hostname", "ip", "locality"} {
		if _, there := keys.Instance[absent]; there {
			t.Errorf("%s is there: clients test for the key", absent)
		}
	}
	if v, there := keys.Instance["server_id"]; !there || v != nil {
		t.Errorf("server_id is %v", v)
	}
	var got wire.InstanceBody
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	want.Instance.ServerID = nil // null reads as absent
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
