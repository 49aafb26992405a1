package bootstrap_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/cloud/openstack/bootstrap"
	"github.com/trove-dbaas/trove/internal/machinedata"
)

// judge looks and returns what is not fine, as "level part name".
func (f *fixture) judge(t *testing.T) (bad []bootstrap.Finding) {
	t.Helper()
	found, err := f.b.Look(t.Context(), f.w)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := bootstrap.Plan(f.w, found)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range bootstrap.Judge(f.w, found, steps) {
		if n.Level != bootstrap.Fine {
			bad = append(bad, n)
		}
	}
	return bad
}

func TestCheckFindsNothingAfterABootstrapAndNamesWhatIsTakenAway(t *testing.T) {
	f := newFixture(t)
	if bad := f.judge(t); len(bad) < 15 {
		t.Errorf("of nothing it misses %v", bad)
	}
	if calls := f.Made(); len(calls) != 0 {
		t.Errorf("a check called %q", calls)
	}
	f.run(t)
	if bad := f.judge(t); len(bad) != 0 {
		t.Errorf("after a bootstrap: %+v", bad)
	}
	f.All["grants"] = nil
	bad := f.judge(t)
	if len(bad) != 1 || bad[0].Level != bootstrap.Missing || bad[0].Command != "trove openstack bootstrap --instances 20 --only role" {
		t.Errorf("without the role: %+v", bad)
	}
}

func TestCheckWarnsBeforeAddressesAndQuotasRunOut(t *testing.T) {
	for _, c := range []struct {
		used int
		want bootstrap.Level
	}{{3, bootstrap.Fine}, {47, bootstrap.Fine}, {48, bootstrap.Warning}, {57, bootstrap.Warning}, {58, bootstrap.Missing}} {
		cidr := netip.MustParsePrefix("10.0.0.0/26")
		found := bootstrap.Found{Subnets: []bootstrap.Subnet{{
			Name: "s", CIDR: cidr, Used: c.used, Pools: []bootstrap.Pool{{Start: netip.MustParseAddr("10.0.0.5"), End: netip.MustParseAddr("10.0.0.62")}},
		}}}
		all := bootstrap.Judge(bootstrap.Wanted{Size: bootstrap.Size{Instances: 1, Controllers: 1}}, found, nil)
		if len(all) != 1 || all[0].Level != c.want {
			t.Errorf("%d of 58 in use: %+v, want %s", c.used, all, c.want)
		}
	}
	w := bootstrap.Wanted{Size: bootstrap.Size{Instances: 1, Controllers: 1}}
	for _, c := range []struct {
		limit, used int
		want        int
	}{{-1, 500, 0}, {100, 79, 0}, {100, 80, 1}, {100, 100, 2}} {
		found := bootstrap.Found{Quotas: []bootstrap.Quota{{Service: "compute", Resource: "cores", Limit: c.limit, Used: c.used}}}
		worst := bootstrap.Fine
		for _, n := range bootstrap.Judge(w, found, nil) {
			worst = max(worst, n.Level)
		}
		if int(worst) != c.want {
			t.Errorf("%d of %d: %s", c.used, c.limit, worst)
		}
	}
}

func TestCheckLooksFromTheServicesOwnEnd(t *testing.T) {
	f := newFixture(t)
	api := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer api.Close()
	f.w.Endpoints = map[string]string{"public": api.URL + "/v1.0/$(project_id)s"}
	f.run(t)
	found, err := f.b.Look(t.Context(), f.w)
	if err != nil {
		t.Fatal(err)
	}
	closed := map[string]bool{}
	ends := bootstrap.Ends{
		LogIn: func(context.Context) (bootstrap.Services, error) { return f.b.Services, nil },
		Dial: func(_ context.Context, _, address string) (net.Conn, error) {
			if closed[address] {
				return nil, errors.New("connection refused")
			}
			c, _ := net.Pipe()
			return c, nil
		},
		HTTP: api.Client(),
	}
	bad := func() (all []string) {
		for _, n := range f.b.CheckEnds(t.Context(), f.w, found, ends) {
			if n.Level != bootstrap.Fine {
				all = append(all, string(n.Part)+" "+n.Name)
			}
		}
		return all
	}
	if all := bad(); len(all) != 0 {
		t.Fatalf("with everything open: %q", all)
	}
	closed["10.224.0.2:4223"] = true
	api.Close()
	if all := bad(); !slices.Equal(all, []string{"bus 10.224.0.2:4223", "endpoint " + api.URL + "/v1.0/$(project_id)s"}) {
		t.Errorf("with a closed port and no API: %q", all)
	}
	ends.LogIn = func(context.Context) (bootstrap.Services, error) {
		return nil, trove.Errorf(trove.KindUnavailable, "The user cannot log in.")
	}
	if all := bad(); len(all) != 3 || all[0] != "login trove" {
		t.Errorf("without a login: %q", all)
	}
}

func (f *fixture) probe(t *testing.T, timeout time.Duration) (bootstrap.Finding, error) {
	t.Helper()
	found, err := f.b.Look(t.Context(), f.w)
	if err != nil {
		t.Fatal(err)
	}
	return f.b.Probe(t.Context(), f.w, found, f.b.Services, bootstrap.ProbeSpec{
		Image: "i1", CABundle: "-----BEGIN CERTIFICATE-----", EnrolPort: 4223, Timeout: timeout, Poll: time.Millisecond,
	}, func(string) {})
}

func (f *fixture) nothingLeft(t *testing.T) {
	t.Helper()
	for _, path := range []string{"compute/v2.1/servers", "volume/v3/p-admin/volumes"} {
		if len(f.All[path]) != 0 {
			t.Errorf("%s are left: %v", path, f.All[path])
		}
	}
	if n := len(f.All["network/v2.0/ports"]); n != 1 { // the controller's
		t.Errorf("%d ports are left", n)
	}
}

func TestProbeIsFineWhenTheGuestWasAnsweredAndLeavesNothing(t *testing.T) {
	f := newFixture(t)
	f.run(t)
	f.Put("compute/v2.1/servers", object{"id": "old", "name": bootstrap.ProbeName}) // an earlier one that was killed
	f.Console = "[trove    9.81] enrol: call https://10.224.0.2:4223/v1/enrol: " + bus.NotAccepted
	var told string
	f.Before = func(call string) bool {
		for _, s := range f.All["compute/v2.1/servers"] {
			if data, ok := s["user_data"].(string); ok {
				told = data
			}
		}
		return false
	}
	n, err := f.probe(t, time.Minute)
	if err != nil || n.Level != bootstrap.Fine {
		t.Fatalf("%+v: %v", n, err)
	}
	f.nothingLeft(t)
	data, err := base64.StdEncoding.DecodeString(told)
	if err != nil {
		t.Fatal(err)
	}
	d, err := machinedata.Parse(data)
	if err != nil || len(d.Boot.EnrolURLs) != 1 || d.Boot.EnrolURLs[0] != "https://10.224.0.2:4223" || d.Interfaces[0].Addresses[0] != "10.224.0.20/26" {
		t.Errorf("the guest was told %+v: %v", d, err)
	}
}

func TestProbeIsBootedInAnotherZoneThanInstances(t *testing.T) {
	f := newFixture(t)
	f.run(t)
	f.Console = bus.NotAccepted
	var zone, volume any
	f.Before = func(string) bool {
		for _, s := range f.All["compute/v2.1/servers"] {
			zone = s["availability_zone"]
		}
		for _, v := range f.All["volume/v3/p-admin/volumes"] {
			volume = v["availability_zone"]
		}
		return false
	}
	found, err := f.b.Look(t.Context(), f.w)
	if err != nil {
		t.Fatal(err)
	}
	spec := bootstrap.ProbeSpec{Image: "i1", Zone: "az2", InZone: true, CABundle: "-----BEGIN CERTIFICATE-----", EnrolPort: 4223, Timeout: time.Minute, Poll: time.Millisecond}
	if n, err := f.b.Probe(t.Context(), f.w, found, f.b.Services, spec, func(string) {}); err != nil || n.Level != bootstrap.Fine || zone != "az2" || volume != "az2" {
		t.Errorf("in %v, its volume in %v: %+v, %v", zone, volume, n, err)
	}
}

func TestAFlavorOfTheCloudIsNoneForAProbe(t *testing.T) {
	f := newFixture(t)
	f.run(t)
	f.Put("compute/v2.1/flavors", object{"id": "f-9", "name": "m1.nano", "ram": 64, "vcpus": 1, "disk": 1, "os-flavor-access:is_public": true})
	f.Page = 2
	f.Console = bus.NotAccepted
	var flavor any
	f.Before = func(string) bool {
		for _, s := range f.All["compute/v2.1/servers"] {
			flavor = s["flavorRef"]
		}
		return false
	}
	found, err := f.b.Look(t.Context(), f.w)
	if err != nil {
		t.Fatal(err)
	}
	spec := bootstrap.ProbeSpec{Image: "i1", Flavor: "m1.nano", CABundle: "-----BEGIN CERTIFICATE-----", EnrolPort: 4223, Timeout: time.Minute, Poll: time.Millisecond}
	if n, err := f.b.Probe(t.Context(), f.w, found, f.b.Services, spec, func(string) {}); err != nil || n.Level != bootstrap.Fine || flavor != "f-9" {
		t.Errorf("with %v: %+v, %v", flavor, n, err)
	}
}

func TestProbeSaysTheLastWordsOfAGuestThatDoesNotArrive(t *testing.T) {
	f := newFixture(t)
	f.run(t)
	f.Console = "boot\x1b[2J\nlink is down\n"
	n, err := f.probe(t, 3*time.Second)
	if err != nil || n.Level != bootstrap.Missing || !strings.Contains(n.Detail, "in time") || !strings.Contains(n.Detail, "link is down") || strings.Contains(n.Detail, "\x1b") {
		t.Errorf("%+v: %v", n, err)
	}
	f.nothingLeft(t)
	f.Before = func(call string) bool { return call == "POST compute/v2.1/servers" }
	if n, err = f.probe(t, time.Minute); err != nil || n.Level != bootstrap.Missing || !strings.Contains(n.Detail, "booting it: ") {
		t.Errorf("of a Nova that refuses: %+v: %v", n, err)
	}
	f.nothingLeft(t)
}
