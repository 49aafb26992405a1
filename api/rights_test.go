package api_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/fake"
	"github.com/trove-dbaas/trove/internal/telemetry"
)

// cloudWorld is a world whose catalogue is the fake cloud's: everybody sees the networks, flavors and types of the recorded exchanges.
func cloudWorld(t *testing.T, change func(*api.Config)) (*world, *fake.Cloud) {
	t.Helper()
	c := fake.New(fake.Options{
		Flavors:     newCatalog().flavors,
		VolumeTypes: []cloud.VolumeType{{ID: "lab", Name: "lab", IsPublic: true}},
		Networks:    []cloud.TenantNetwork{{ID: networkID, Name: "net", Subnets: []cloud.Subnet{{ID: subnetID, CIDR: "10.0.0.0/24"}}}},
	})
	return newWorld(t, nil, func(cfg *api.Config) {
		cfg.Catalog = c
		if change != nil {
			change(cfg)
		}
	}), c
}

func createBody(parts string) string {
	return `{"instance":{"name":"x","flavorRef":"2","volume":{"size":1}` + parts + `}}`
}

// What a caller cannot see is answered as what does not exist, whatever we could see: a request reaches nothing with our rights.
func TestWhatTheCallerCannotSeeIsNotThere(t *testing.T) {
	for name, c := range map[string]struct {
		hidden, body, absent string
		status               int
		message              string
	}{
		"network": {
			networkID, createBody(`,"nics":[{"network_id":"` + networkID + `"}]`), createBody(`,"nics":[{"network_id":"` + absentID + `"}]`),
			http.StatusNotFound, "Network %s (network_id in nics) cannot be found: name one that the project has, or that is shared with it.",
		},
		"subnet": {
			networkID, createBody(`,"nics":[{"subnet_id":"` + subnetID + `"}]`), createBody(`,"nics":[{"subnet_id":"` + absentID + `"}]`),
			http.StatusNotFound, "Subnet %s (subnet_id in nics) cannot be found: name one that the project has, or that is shared with it.",
		},
		"network with its subnet": {
			networkID, createBody(`,"nics":[{"network_id":"` + networkID + `","subnet_id":"` + subnetID + `"}]`),
			createBody(`,"nics":[{"network_id":"` + absentID + `","subnet_id":"` + subnetID + `"}]`),
			http.StatusNotFound, "Network %s (network_id in nics) cannot be found: name one that the project has, or that is shared with it.",
		},
		"address in a subnet": {
			networkID, createBody(`,"nics":[{"subnet_id":"` + subnetID + `","ip_address":"10.0.0.9"}]`),
			createBody(`,"nics":[{"subnet_id":"` + absentID + `","ip_address":"10.0.0.9"}]`),
			http.StatusNotFound, "Subnet %s (subnet_id in nics) cannot be found: name one that the project has, or that is shared with it.",
		},
		"flavor": {
			"2", createBody(""), strings.Replace(createBody(""), `"2"`, `"`+absentID+`"`, 1), http.StatusBadRequest, "Resource %s cannot be found.",
		},
		"volume type": {
			"lab", strings.Replace(createBody(""), `"size":1`, `"size":1,"type":"lab"`, 1),
			strings.Replace(createBody(""), `"size":1`, `"size":1,"type":"`+absentID+`"`, 1),
			http.StatusNotFound, "Volume type %s (type in volume) cannot be found: name one that the project has, or that is shared with it.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, cl := cloudWorld(t, nil)
			cl.Hide(c.hidden, "member")
			named := map[string]string{"subnet": subnetID, "address in a subnet": subnetID}[name]
			if named == "" {
				named = c.hidden
			}
			for _, ask := range []struct{ body, id string }{{c.body, named}, {c.absent, absentID}} {
				rec := w.ask(t, "member", http.MethodPost, "/instances", ask.body)
				if want := fmt.Sprintf(c.message, ask.id); rec.Code != c.status || message(t, rec) != want {
					t.Errorf("%d %s, want %d %s", rec.Code, rec.Body, c.status, want)
				}
			}
			// Another of the same project sees it: it is the token that counts.
			w.must(t, http.StatusOK, "admin", http.MethodPost, "/instances", c.body, nil)
		})
	}
}

func TestListsShowWhatTheCallerSees(t *testing.T) {
	w, cl := cloudWorld(t, nil)
	cl.Hide("4", "member")
	cl.Hide("lab", "member")
	for token, want := range map[string][2]int{"member": {3, 0}, "admin": {4, 1}} {
		var flavors wire.FlavorList
		w.must(t, http.StatusOK, token, http.MethodGet, "/flavors", "", &flavors)
		var types wire.VolumeTypeList
		w.must(t, http.StatusOK, token, http.MethodGet, "/datastores/mysql/versions/8.0.29/volume-types", "", &types)
		if len(flavors.Flavors) != want[0] || len(types.VolumeTypes) != want[1] {
			t.Errorf("%s sees %d flavors and %d types, want %v", token, len(flavors.Flavors), len(types.VolumeTypes), want)
		}
	}
	w.must(t, http.StatusNotFound, "member", http.MethodGet, "/flavors/4", "", nil)
	w.must(t, http.StatusOK, "admin", http.MethodGet, "/flavors/4", "", nil)
}

// An instance keeps a flavor that its owner cannot see any more, and can leave it.
func TestResizeFromAFlavorThatIsHiddenNow(t *testing.T) {
	w, cl := cloudWorld(t, nil)
	id := w.built(t)
	var now wire.InstanceBody
	w.must(t, http.StatusOK, "member", http.MethodGet, "/instances/"+id, "", &now)
	old := now.Instance.Flavor.ID
	cl.Hide(old, "member")
	w.must(t, http.StatusAccepted, "member", http.MethodPost, "/instances/"+id+"/action", `{"resize":{"flavorRef":"3"}}`, nil)
	row, open := w.openOperation(t, id)
	if !open || !strings.Contains(string(row.Input), `"`+old+`"`) {
		t.Errorf("the operation does not know the old flavor %s: %s", old, row.Input)
	}
}

// The cloud may refuse a token that was good a moment ago: the client shall get a new one.
func TestTheCloudRefusesTheToken(t *testing.T) {
	var log bytes.Buffer
	w, cl := cloudWorld(t, func(c *api.Config) { c.Log = telemetry.NewLogger(&log, "json", slog.LevelDebug) })
	body := createBody(`,"nics":[{"network_id":"` + networkID + `"}]`)
	cl.FailNext("TenantNetworks", trove.Errorf(trove.KindUnauthorized, "The request you have made requires authentication."))
	rec := w.must(t, http.StatusUnauthorized, "member", http.MethodPost, "/instances", body, nil)
	if rec.Header().Get("Www-Authenticate") == "" {
		t.Error("the client is not told where to log in")
	}
	cl.FailNext("TenantNetworks", trove.Errorf(trove.KindUnavailable, "The networks cannot be read now; try again."))
	w.must(t, http.StatusServiceUnavailable, "member", http.MethodPost, "/instances", body, nil)
	if strings.Contains(log.String(), `"member"`) {
		t.Errorf("the token is in the log: %s", &log)
	}
}
