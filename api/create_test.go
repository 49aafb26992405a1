package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/store"
)

func TestCreateWritesEverythingAtOnce(t *testing.T) {
	w := newWorld(t, nil, nil)
	var body wire.InstanceBody
	rec := w.must(t, http.StatusOK, "member", http.MethodPost, "/instances", `{"instance":{"name":"db","flavorRef":2,"volume":{"size":"3"},
		"datastore":{"type":"mariadb","version":"10.11.6"},"nics":[{"net-id":"`+networkID+`","subnet_id":"`+subnetID+`","ip_address":"10.0.0.7"}],
		"databases":[{"name":"app","character_set":"utf8"}],
		"users":[{"name":"u","password":"pa55word","databases":[{"name":"app"}]}],
		"access":{"is_public":true,"allowed_cidrs":["10.0.0.0/8"]}}}`, &body)
	i, err := w.store.Instance(t.Context(), body.Instance.ID)
	if err != nil {
		t.Fatal(err)
	}
	if i.ServerID == 0 {
		t.Error("the instance has no server id")
	}
	want := trove.Instance{
		ID: i.ID, ProjectID: project, Name: "db", Created: w.clock.Now(), Updated: w.clock.Now(), Task: trove.TaskBuilding,
		DatastoreVersionID: versionID("mariadb", "10.11.6"), FlavorID: "2", VolumeSize: 3, Region: "RegionOne", ServerID: i.ServerID,
		Access:  trove.Access{IsPublic: true, AllowedCIDRs: []string{"10.0.0.0/8"}},
		NICs:    []trove.NIC{{NetworkID: networkID, SubnetID: subnetID, IPAddress: "10.0.0.7"}},
		Held:    map[string]int{"instances": 1, "ram": 2048, "volumes": 3},
		Guest:   trove.GuestState{Service: trove.ServiceNew},
		Version: i.Version,
	}
	if diff := cmp.Diff(want, i); diff != "" {
		t.Errorf("the row (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]int{"instances": 1, "ram": 2048, "volumes": 3}, w.inUse(t)); diff != "" {
		t.Errorf("quota in use:\n%s", diff)
	}
	if *w.woken != 1 {
		t.Errorf("the taskmanager was woken %d times", *w.woken)
	}
	row, open := w.openOperation(t, i.ID)
	if !open || row.ID != rec.Header().Get(wire.HeaderOperation) || row.Kind != trove.OpCreate || row.RequestID != rec.Header().Get(wire.HeaderRequestID) {
		t.Errorf("the operation is %+v, the header names %s", row.Operation, rec.Header().Get(wire.HeaderOperation))
	}
	if strings.Contains(strings.ReplaceAll(string(row.Input), "sealed:", ""), `"password":"pa55word"`) {
		t.Error("the password stands in the input in clear")
	}
	checkInput(t, row, i.ID)
}

func checkInput(t *testing.T, row store.OperationRow, id string) {
	t.Helper()
	var in trove.CreateInput
	if err := json.Unmarshal(row.Input, &in); err != nil {
		t.Fatal(err)
	}
	plain, err := fakeSealer{}.Open(t.Context(), trove.SecretPurpose(id), in.Sealed)
	if err != nil {
		t.Fatal(err)
	}
	var secrets trove.CreateSecrets
	if err := json.Unmarshal([]byte(plain.Reveal()), &secrets); err != nil {
		t.Fatal(err)
	}
	wantUsers := []trove.CreateUser{{Name: "u", Host: "%", Password: "pa55word", Databases: []string{"app"}}}
	if diff := cmp.Diff(wantUsers, secrets.Users); diff != "" {
		t.Errorf("the sealed users:\n%s", diff)
	}
	in.Sealed = ""
	wantIn := trove.CreateInput{
		Flavor:    trove.Flavor{ID: "2", Name: "m1.small", RAM: 2048, VCPUs: 1, Disk: 20},
		Databases: []trove.Database{{Name: "app", CharacterSet: "utf8"}},
	}
	if diff := cmp.Diff(wantIn, in); diff != "" {
		t.Errorf("the input:\n%s", diff)
	}
}

// A create that is refused anywhere leaves no row, no quota and no operation.
func TestRefusedCreateLeavesNothing(t *testing.T) {
	cases := map[string]struct {
		body    string
		status  int
		message string
	}{
		"over quota":         {`{"instance":{"name":"db","flavorRef":"2","volume":{"size":41}}}`, 413, "Quota exceeded for resources: ['volumes']."},
		"too large":          {`{"instance":{"name":"db","flavorRef":"2","volume":{"size":101}}}`, 413, "Volume 'size' cannot exceed maximum of 100 GB, 101 cannot be accepted."},
		"size of 30 digits":  {`{"instance":{"name":"db","flavorRef":"2","volume":{"size":"100000000000000000000000000000"}}}`, 413, "cannot be accepted"},
		"size 2^63":          {`{"instance":{"name":"db","flavorRef":"2","volume":{"size":9223372036854775808}}}`, 413, "cannot be accepted"},
		"no flavor":          {`{"instance":{"name":"db","flavorRef":"nope","volume":{"size":1}}}`, 400, "Resource nope cannot be found."},
		"no version":         {`{"instance":{"name":"db","flavorRef":"2","volume":{"size":1},"datastore":{"version":"9"}}}`, 400, "Datastore version '9' cannot be found."},
		"foreign network":    {`{"instance":{"name":"db","flavorRef":"2","volume":{"size":1},"nics":[{"net-id":"` + absentID + `"}]}}`, 404, absentID},
		"address elsewhere":  {`{"instance":{"name":"db","flavorRef":"2","volume":{"size":1},"nics":[{"subnet_id":"` + subnetID + `","ip_address":"10.9.9.9"}]}}`, 400, "not in the subnet"},
		"bad network":        {`{"instance":{"name":"db","flavorRef":"2","volume":{"size":1},"access":{"allowed_cidrs":["10.0.0.300/8"]}}}`, 400, "allowed_cidrs'][0]"},
		"nobody":             {`{"instance":{"name":"db","flavorRef":"2","volume":{"size":1},"access":{"allowed_cidrs":[]}}}`, 400, "allowed_cidrs"},
		"reserved database":  {`{"instance":{"name":"db","flavorRef":"2","volume":{"size":1},"databases":[{"name":"mysql"}]}}`, 400, "reserved list"},
		"other region":       {`{"instance":{"name":"db","flavorRef":"2","volume":{"size":1},"region_name":"Mars"}}`, 400, "Mars"},
		"backup":             {`{"instance":{"name":"db","flavorRef":"2","volume":{"size":1},"restorePoint":{"backupRef":"` + absentID + `"}}}`, 404, absentID},
		"configuration":      {`{"instance":{"name":"db","flavorRef":"2","volume":{"size":1},"configuration":"https://x/v1/` + absentID + `"}}`, 404, absentID},
		"name in other case": {`{"instance":{"Name":"db","flavorRef":"2","volume":{"size":1}}}`, 400, "'name' is a required property"},
	}
	w := newWorld(t, nil, nil)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			rec := w.ask(t, "member", http.MethodPost, "/instances", c.body)
			if rec.Code != c.status || !strings.Contains(message(t, rec), c.message) {
				t.Errorf("%d %s, want %d %s", rec.Code, rec.Body, c.status, c.message)
			}
			left, err := w.store.Instances(t.Context(), store.InstanceFilter{})
			if err != nil {
				t.Fatal(err)
			}
			ops, err := w.store.DueOperations(t.Context(), w.clock.Now().Add(1e12), 10)
			if err != nil {
				t.Fatal(err)
			}
			if len(left)+len(ops)+len(w.inUse(t)) > 0 || *w.woken > 0 {
				t.Errorf("left: %v %v %v", left, ops, w.inUse(t))
			}
		})
	}
}

// encoding/json would match keys without regard to case and so let a value past the schema; the handlers must not.
func TestKeysInOtherCaseAreNotRead(t *testing.T) {
	w := newWorld(t, nil, nil)
	var body wire.InstanceBody
	w.must(t, http.StatusOK, "member", http.MethodPost, "/instances",
		`{"instance":{"name":"db","NAME":"","flavorRef":"2","FlavorRef":"4","volume":{"size":1,"SIZE":"x"}}}`, &body)
	if body.Instance.Name != "db" || body.Instance.Flavor.ID != "2" || body.Instance.Volume.Size != 1 {
		t.Errorf("%+v", body.Instance)
	}
}

func TestCreateOfARemovedVersion(t *testing.T) {
	w := newWorld(t, nil, nil)
	inTx(t, w.store, func(ctx context.Context, tx store.Tx) error {
		v, err := tx.DatastoreVersion(ctx, versionID("mysql", "5.7.29"))
		if err != nil {
			return err
		}
		v.Active = false
		return tx.PutDatastoreVersion(ctx, v)
	})
	rec := w.ask(t, "member", http.MethodPost, "/instances",
		`{"instance":{"name":"db","flavorRef":"2","volume":{"size":1},"datastore":{"type":"mysql","version":"5.7.29"}}}`)
	if rec.Code != http.StatusBadRequest || message(t, rec) != "Datastore version '5.7.29' is not active." {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

// Without a policy for users a create that brings users is refused, although creating is allowed.
func TestCreateAsksForEachPolicy(t *testing.T) {
	w := newWorld(t, nil, nil)
	deny := denying{w.config.Policy, "instance:extension:user:create"}
	w.config.Policy = deny
	w.rebuild(t)
	rec := w.ask(t, "member", http.MethodPost, "/instances",
		`{"instance":{"name":"db","flavorRef":"2","volume":{"size":1},"users":[{"name":"u","password":"p"}]}}`)
	if rec.Code != http.StatusForbidden {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	w.must(t, http.StatusOK, "member", http.MethodPost, "/instances", minimalCreate, nil)
}
