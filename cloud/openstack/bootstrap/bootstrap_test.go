package bootstrap_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/openstack/bootstrap"
	"github.com/trove-dbaas/trove/cloud/openstack/bootstrap/bootstraptest"
	"github.com/trove-dbaas/trove/internal/imagelayout"
)

// fixture is a fake OpenStack and what is wanted of it.
type fixture struct {
	*bootstraptest.Fake
	b        *bootstrap.Bootstrap
	w        bootstrap.Wanted
	host     *host
	registry *registry
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{Fake: bootstraptest.New(t), host: &host{}, registry: &registry{images: map[string]string{}}}
	f.b = &bootstrap.Bootstrap{Services: session(t, f.Fake), Registry: f.registry, Host: f.host}
	dir := t.TempDir()
	f.w = bootstrap.Wanted{
		Region: "R", User: "trove", UserDomain: "Default", Project: "service", ProjectDomain: "Default", Role: "admin",
		PasswordFile: filepath.Join(dir, "keys", "openstack-password"), Network: "trove-management",
		Size:  bootstrap.Size{Instances: 20, Replicas: 1, Controllers: 2},
		Group: "trove-management", ControllerGroup: "trove-controllers", Ports: []int{4222, 4223, 4224}, Host: "lab1", Interface: "trove-m0",
		Flavors: bootstrap.DefaultFlavors(), VolumeGiB: 100, Images: []bootstrap.ImageFile{imageFile(t, dir, "mariadb", "10.11", "one")},
		Endpoints:   map[string]string{"public": "https://db.example/v1.0/$(project_id)s", "internal": "http://10.0.0.1:8779/v1.0/$(project_id)s"},
		ServiceName: "trove", AuthURL: "http://keystone.example:5000/v3", ConfigFile: filepath.Join(dir, "trove.yaml"),
	}
	return f
}

func imageFile(t *testing.T, dir, datastore, version, content string) bootstrap.ImageFile {
	t.Helper()
	path := filepath.Join(dir, content+".qcow2")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(content))
	return bootstrap.ImageFile{
		Path: path, Format: "qcow2", MinDisk: 4, MinRAM: 512, Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:]),
		Manifest:   imagelayout.Manifest{ID: trove.NewID(), Datastore: datastore, Version: version, Manager: datastore},
		Properties: map[string]string{"hw_disk_bus": "virtio"},
	}
}

// run bootstraps and returns what was made or changed, as "state part name".
func (f *fixture) run(t *testing.T) []string {
	t.Helper()
	var changed []string
	_, err := f.b.Run(t.Context(), f.w, false, func(s bootstrap.Step) {
		if s.Action != nil {
			changed = append(changed, string(s.State)+" "+string(s.Part)+" "+s.Name)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func (f *fixture) plan(t *testing.T) []bootstrap.Step {
	t.Helper()
	found, err := f.b.Look(t.Context(), f.w)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := bootstrap.Plan(f.w, found)
	if err != nil {
		t.Fatal(err)
	}
	return steps
}

func TestFromNothingAndASecondRunChangesNothing(t *testing.T) {
	f := newFixture(t)
	first := f.run(t)
	for _, want := range []string{
		"make user trove", "make role admin of trove in service", "make network trove-management", "make subnet trove-management-subnet",
		"make security-group trove-management", "make security-group trove-controllers", "make controller-port trove-controllers-lab1",
		"make interface trove-m0", "make flavor db.small", "change quota compute of service", "change quota volume of service",
		"make datastore-version mariadb 10.11", "make endpoint database", "make endpoint public in R",
	} {
		if !slices.Contains(first, want) {
			t.Errorf("no %q in %q", want, first)
		}
	}
	f.Made()
	if again := f.run(t); len(again) != 0 {
		t.Errorf("the second run changed %q", again)
	}
	if calls := f.Made(); len(calls) != 0 {
		t.Errorf("the second run called %q", calls)
	}
	for _, s := range f.plan(t) {
		if s.State != bootstrap.There {
			t.Errorf("%+v", s)
		}
	}
}

// What guests may send is three ports of the controller, and nothing reaches them.
func TestGuestsReachTheControllersPortsAndNothingElse(t *testing.T) {
	f := newFixture(t)
	f.run(t)
	group := f.One(t, "network/v2.0/security-groups", "name", "trove-management")
	var rules []string
	for _, r := range f.All["network/v2.0/security-group-rules"] {
		if r["security_group_id"] == group["id"] {
			rules = append(rules, r["direction"].(string)+" "+r["protocol"].(string)+" "+r["remote_ip_prefix"].(string))
		}
	}
	controller := f.host.net.Addresses[0].Prefix.Addr().String()
	want := []string{"egress tcp " + controller + "/32", "egress tcp " + controller + "/32", "egress tcp " + controller + "/32"}
	if diff := cmp.Diff(want, rules); diff != "" {
		t.Error(diff)
	}
	subnet := f.One(t, "network/v2.0/subnets", "name", "trove-management-subnet")
	if subnet["gateway_ip"] != nil || subnet["enable_dhcp"] != false || subnet["project_id"] != "p-service" {
		t.Errorf("subnet: %v", subnet)
	}
	if n := f.One(t, "network/v2.0/networks", "name", "trove-management"); n["shared"] != false || n["project_id"] != "p-service" {
		t.Errorf("network: %v", n)
	}
}

func TestPasswordIsInAFileOfItsOwnerAlone(t *testing.T) {
	f := newFixture(t)
	f.run(t)
	info, err := os.Stat(f.w.PasswordFile)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info, err)
	}
	data, err := os.ReadFile(f.w.PasswordFile)
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.TrimSpace(string(data))
	if user := f.One(t, "identity/v3/users", "name", "trove"); user["password"] != secret || len(secret) < 40 {
		t.Errorf("the user has another password than the file, or it is short")
	}
	for _, s := range f.plan(t) {
		if strings.Contains(s.Detail, secret) {
			t.Errorf("a step tells the password")
		}
	}
}

func TestDryRunMakesNoChangingCallAndNoFile(t *testing.T) {
	f := newFixture(t)
	steps := 0
	_, err := f.b.Run(t.Context(), f.w, true, func(s bootstrap.Step) {
		if s.Action != nil {
			steps++
		}
	})
	if err != nil || steps < 15 {
		t.Errorf("%d steps: %v", steps, err)
	}
	if calls := f.Made(); len(calls) != 0 {
		t.Errorf("it called %q", calls)
	}
	if _, err := os.Stat(f.w.PasswordFile); !os.IsNotExist(err) || len(f.registry.images) != 0 || len(f.host.net.Addresses) != 0 {
		t.Errorf("something was made: %v %v %v", err, f.registry.images, f.host.net)
	}
}

// Each single thing that somebody took away or changed is put right, and nothing else is touched.
func TestEachBrokenThingIsMended(t *testing.T) {
	type breakage struct {
		does func(t *testing.T, f *fixture)
		want []string
	}
	set := func(path, name, field string, value any) func(*testing.T, *fixture) {
		return func(t *testing.T, f *fixture) { f.One(t, path, "name", name)[field] = value }
	}
	drop := func(path string, is func(object) bool) func(*testing.T, *fixture) {
		return func(_ *testing.T, f *fixture) {
			f.All[path] = slices.DeleteFunc(f.All[path], is)
		}
	}
	rule := func(o object) func(*testing.T, *fixture) {
		return func(t *testing.T, f *fixture) {
			o := maps.Clone(o)
			o["id"], o["security_group_id"] = "strange", f.One(t, "network/v2.0/security-groups", "name", "trove-management")["id"]
			f.Put("network/v2.0/security-group-rules", o)
		}
	}
	for name, c := range map[string]breakage{
		"the role is gone":      {drop("grants", func(object) bool { return true }), []string{"make role admin of trove in service"}},
		"the network is down":   {set("network/v2.0/networks", "trove-management", "admin_state_up", false), []string{"change network trove-management"}},
		"the network is open":   {set("network/v2.0/networks", "trove-management", "shared", true), []string{"change network trove-management"}},
		"no security groups":    {set("network/v2.0/networks", "trove-management", "port_security_enabled", false), []string{"change network trove-management"}},
		"a gateway":             {set("network/v2.0/subnets", "trove-management-subnet", "gateway_ip", "10.224.0.1"), []string{"change subnet trove-management-subnet"}},
		"a name server":         {set("network/v2.0/subnets", "trove-management-subnet", "dns_nameservers", []string{"9.9.9.9"}), []string{"change subnet trove-management-subnet"}},
		"DHCP is on":            {set("network/v2.0/subnets", "trove-management-subnet", "enable_dhcp", true), []string{"change subnet trove-management-subnet"}},
		"a rule is gone":        {drop("network/v2.0/security-group-rules", func(o object) bool { return o["port_range_min"] == 4223. && o["direction"] == "egress" }), []string{"change security-group trove-management"}},
		"guests may go out":     {rule(object{"direction": "egress", "ethertype": "IPv4"}), []string{"change security-group trove-management"}},
		"somebody may come in":  {rule(object{"direction": "ingress", "ethertype": "IPv4", "protocol": "tcp", "port_range_min": 22, "port_range_max": 22}), []string{"change security-group trove-management"}},
		"the port moved":        {set("network/v2.0/ports", "trove-controllers-lab1", "binding:host_id", "other"), []string{"change controller-port trove-controllers-lab1"}},
		"the port is gone":      {drop("network/v2.0/ports", func(object) bool { return true }), []string{"make controller-port trove-controllers-lab1"}},
		"the interface is gone": {func(_ *testing.T, f *fixture) { f.host.net.Addresses = nil }, []string{"make interface trove-m0"}},
		"the bridge is open":    {func(_ *testing.T, f *fixture) { f.host.net.Guarded = nil }, []string{"change interface bridge of trove-management"}},
		"a flavor is gone":      {drop("compute/v2.1/flavors", func(o object) bool { return o["name"] == "db.tiny" }), []string{"make flavor db.tiny"}},
		"a quota is low":        {func(_ *testing.T, f *fixture) { f.Quotas["compute"]["cores"] = 3 }, []string{"change quota compute of service"}},
		"the image is gone": {
			drop("image/v2/images", func(object) bool { return true }),
			[]string{"make image IMAGE", "change datastore-version mariadb 10.11"},
		},
		"the upload was cut off": {func(_ *testing.T, f *fixture) { f.All["image/v2/images"][0]["status"] = "queued" }, []string{"change image IMAGE"}},
		"the version has another image": {
			func(_ *testing.T, f *fixture) { f.registry.images["mariadb 10.11"] = "another" },
			[]string{"change datastore-version mariadb 10.11"},
		},
		"the configuration is gone": {
			func(t *testing.T, f *fixture) {
				if err := os.Remove(f.w.ConfigFile); err != nil {
					t.Error(err)
				}
			}, []string{"make configuration CONFIG"},
		},
		"the version is gone":     {func(_ *testing.T, f *fixture) { clear(f.registry.images) }, []string{"make datastore-version mariadb 10.11"}},
		"an endpoint is gone":     {drop("identity/v3/endpoints", func(o object) bool { return o["interface"] == "public" }), []string{"make endpoint public in R"}},
		"an endpoint is disabled": {func(_ *testing.T, f *fixture) { f.All["identity/v3/endpoints"][0]["enabled"] = false }, []string{"change endpoint public in R"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.run(t)
			c.does(t, f)
			for n := range c.want {
				c.want[n] = strings.ReplaceAll(c.want[n], "IMAGE", f.w.Images[0].Name())
				c.want[n] = strings.ReplaceAll(c.want[n], "CONFIG", f.w.ConfigFile)
			}
			if diff := cmp.Diff(c.want, f.run(t)); diff != "" {
				t.Error(diff)
			}
			if again := f.run(t); len(again) != 0 {
				t.Errorf("and then it changed %q", again)
			}
		})
	}
}

// Nova lists at most max_limit things at once, which an operator may have set lower than what is asked for.
func TestFlavorsAreMadeASecondTimeWhereNovaListsFewAtOnce(t *testing.T) {
	f := newFixture(t)
	f.run(t)
	for f.Page = range 5 {
		if again := f.run(t); len(again) != 0 {
			t.Errorf("with %d at once the second run changed %q", f.Page, again)
		}
	}
}

func TestAConfigurationThatIsItsOwnersAloneIsOpenedToOthers(t *testing.T) {
	f := newFixture(t)
	if err := os.WriteFile(f.w.ConfigFile, []byte("log: {level: debug}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.run(t)
	if info, err := os.Stat(f.w.ConfigFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// A run that is cut off at any call is finished by the next one, with one of each thing.
func TestRunThatIsCutOffAnywhereIsFinishedByTheNext(t *testing.T) {
	whole := newFixture(t)
	whole.run(t)
	calls := whole.Made()
	counts := func(f *fixture) map[string]int {
		n := map[string]int{}
		for path, all := range f.All {
			n[path] = len(all)
		}
		return n
	}
	want := counts(whole)
	for n, call := range calls {
		f := newFixture(t)
		cut := 0
		f.Before = func(string) bool { cut++; return cut == n+1 }
		if _, err := f.b.Run(t.Context(), f.w, false, func(bootstrap.Step) {}); err == nil {
			t.Errorf("call %d (%s) failed and nobody noticed", n, call)
		}
		f.Before = nil
		f.run(t)
		if diff := cmp.Diff(want, counts(f)); diff != "" {
			t.Errorf("cut off at call %d (%s): %s", n, call, diff)
		}
	}
}

func TestOlderImagesAreHiddenAndKept(t *testing.T) {
	f := newFixture(t)
	f.run(t)
	old := f.w.Images[0]
	f.w.Images[0] = imageFile(t, t.TempDir(), "mariadb", "10.11", "two")
	want := []string{"make image " + f.w.Images[0].Name(), "change image " + old.Name(), "change datastore-version mariadb 10.11"}
	if diff := cmp.Diff(want, f.run(t)); diff != "" {
		t.Error(diff)
	}
	if i := f.One(t, "image/v2/images", "trove_image", old.Manifest.ID); i["os_hidden"] != true {
		t.Errorf("the old image: %v", i)
	}
	i := f.One(t, "image/v2/images", "trove_image", f.w.Images[0].Manifest.ID)
	if f.registry.images["mariadb 10.11"] != i["id"] || f.Data[i["id"].(string)] != "two" || i["owner"] != "p-service" || i["visibility"] != "private" {
		t.Errorf("the new image: %v, the version has %v", i, f.registry.images)
	}
}

// TestTheServiceCannotReadItsConfigurationAfterABootstrap: root adds to a file that belongs to the service's account.
func TestTheServiceCannotReadItsConfigurationAfterABootstrap(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("it gives a file away: needs root")
	}
	f := newFixture(t)
	if err := errors.Join(os.WriteFile(f.w.ConfigFile, []byte("log: {level: warn}\n"), 0o600), os.Chown(f.w.ConfigFile, 12345, 23456)); err != nil {
		t.Fatal(err)
	}
	f.run(t)
	info, err := os.Stat(f.w.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	of := info.Sys().(*syscall.Stat_t)
	if of.Uid != 12345 || of.Gid != 23456 || info.Mode().Perm() != 0o600 {
		t.Errorf("it belongs to %d:%d, mode %v", of.Uid, of.Gid, info.Mode())
	}
	if text, err := os.ReadFile(f.w.ConfigFile); err != nil || !strings.Contains(string(text), "cloud: openstack") {
		t.Errorf("it says %q, %v", text, err)
	}
}

// TestAnImageOfWhichGlanceTellsOnALaterPageIsUploadedAgain: a version has as many hidden images as it had builds, and Glance lists 25 at once.
func TestAnImageOfWhichGlanceTellsOnALaterPageIsUploadedAgain(t *testing.T) {
	f := newFixture(t)
	f.Page = 2
	m := f.w.Images[0].Manifest
	for _, id := range []string{"i1", "i2", "i3", "i4", "i5"} {
		f.Put("image/v2/images", object{
			"id": id, "name": id, "status": "active", "os_hidden": true, "owner": "p-service", "trove_image": "build " + id, "trove_datastore": m.Datastore, "trove_version": m.Version,
		})
	}
	f.All["image/v2/images"][4]["trove_image"] = m.ID
	f.run(t)
	if n := len(f.All["image/v2/images"]); n != 5 || f.registry.images["mariadb 10.11"] != "i5" {
		t.Errorf("%d images, the version has %v", n, f.registry.images)
	}
}

func TestImageThatIsNotWhatWasBuiltIsNotUploaded(t *testing.T) {
	f := newFixture(t)
	if err := os.WriteFile(f.w.Images[0].Path, []byte("on"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := f.b.Run(t.Context(), f.w, false, func(bootstrap.Step) {})
	if err == nil || !strings.Contains(err.Error(), "not what was built") || len(f.All["image/v2/images"]) != 0 {
		t.Errorf("%v, images %v", err, f.All["image/v2/images"])
	}
}

// A user that is there may be one of a Trove that runs: its password is not changed unless that is said.
func TestPasswordOfAUserThatIsThereIsNotTaken(t *testing.T) {
	f := newFixture(t)
	f.Put("identity/v3/users", object{"id": "u9", "name": "trove", "domain_id": "default", "password": "of-another-trove"})
	_, err := f.b.Run(t.Context(), f.w, false, func(bootstrap.Step) {})
	if trove.KindOf(err) != trove.KindConflict || !strings.Contains(err.Error(), "--reset-password") {
		t.Errorf("%v", err)
	}
	if calls := f.Made(); len(calls) != 0 {
		t.Errorf("it changed %q all the same", calls)
	}
	if err := os.MkdirAll(filepath.Dir(f.w.PasswordFile), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.w.PasswordFile, []byte("wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = f.b.Run(t.Context(), f.w, false, func(bootstrap.Step) {}); err == nil || !strings.Contains(err.Error(), "cannot log in") {
		t.Errorf("%v", err)
	}
	f.w.ResetPassword = true
	f.run(t)
	if u := f.One(t, "identity/v3/users", "name", "trove"); u["password"] != "wrong" {
		t.Errorf("the password is not that of the file")
	}
	if err := os.WriteFile(f.w.PasswordFile, []byte("of-another-trove\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(f.w.PasswordFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err = f.b.Run(t.Context(), f.w, false, func(bootstrap.Step) {}); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file that others can read: %v", err)
	}
}

func TestFurtherControllersRulesStay(t *testing.T) {
	f := newFixture(t)
	f.run(t)
	f.w.Host, f.w.Interface, f.w.ConfigFile = "lab2", "", "" // each host has a file of its own
	f.w.Controllers = []netip.Addr{netip.MustParseAddr("10.224.0.3")}
	f.host.net = bootstrap.HostNet{Addresses: []bootstrap.HostAddress{{Interface: "eth1", Prefix: netip.MustParsePrefix("10.224.0.3/26")}}}
	want := []string{"change security-group trove-management", "change security-group trove-management", "change security-group trove-management"}
	if diff := cmp.Diff(want, f.run(t)); diff != "" {
		t.Error(diff)
	}
	group := f.One(t, "network/v2.0/security-groups", "name", "trove-management")["id"]
	n := 0
	for _, r := range f.All["network/v2.0/security-group-rules"] {
		if r["security_group_id"] == group {
			n++
		}
	}
	if n != 6 {
		t.Errorf("%d rules for two controllers with three ports", n)
	}
}
