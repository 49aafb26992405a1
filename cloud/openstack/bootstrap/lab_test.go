package bootstrap_test

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gophercloud/gophercloud/v2"

	"github.com/trove-dbaas/trove/cloud/openstack/bootstrap"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
	"github.com/trove-dbaas/trove/internal/openstacktest"
)

// labName is what all that the test makes in the lab is called.
const labName = "bootstrap-test"

// lab is the administrator's login to a real OpenStack.
type lab struct {
	t *testing.T
	s *osclient.Session
}

func (l lab) open(client func() (*gophercloud.ServiceClient, error)) *gophercloud.ServiceClient {
	l.t.Helper()
	c, err := client()
	if err != nil {
		l.t.Fatal(err)
	}
	return c
}

// list returns the ids of what is found.
func (l lab) list(ctx context.Context, c *gophercloud.ServiceClient, kind string, q url.Values) (ids []string) {
	l.t.Helper()
	var found map[string]any
	if _, err := c.Get(ctx, c.ServiceURL(strings.ReplaceAll(kind, "_", "-"))+"?"+q.Encode(), &found, nil); err != nil { //nolint:bodyclose // it is read and closed
		l.t.Fatal(err)
	}
	all, _ := found[kind].([]any)
	for _, o := range all {
		id, _ := o.(map[string]any)["id"].(string)
		ids = append(ids, id)
	}
	return ids
}

// clear removes what this test, or one before it, has made.
func (l lab) clear(ctx context.Context) {
	l.t.Helper()
	network, image, identity, compute := l.open(l.s.Network), l.open(l.s.Image), l.open(l.s.Identity), l.open(l.s.Compute)
	remove := func(c *gophercloud.ServiceClient, path string, ids []string) {
		for _, id := range ids {
			if _, err := c.Delete(ctx, c.ServiceURL(path, id), nil); err != nil { //nolint:bodyclose // it is read and closed
				l.t.Errorf("remove %s %s: %v", path, id, err)
			}
		}
	}
	name := url.Values{"name": {labName}}
	remove(network, "networks", l.list(ctx, network, "networks", name))
	remove(network, "security-groups", l.list(ctx, network, "security_groups", name))
	remove(identity, "users", l.list(ctx, identity, "users", name))
	for _, hidden := range []string{"true", "false"} {
		remove(image, "images", l.list(ctx, image, "images", url.Values{"trove_datastore": {labName}, "os_hidden": {hidden}}))
	}
	var flavors struct {
		Flavors []bootstrap.Flavor `json:"flavors"`
	}
	if _, err := compute.Get(ctx, compute.ServiceURL("flavors", "detail")+"?is_public=none", &flavors, nil); err != nil { //nolint:bodyclose // it is read and closed
		l.t.Fatal(err)
	}
	for _, f := range flavors.Flavors {
		if f.Name == labName {
			remove(compute, "flavors", []string{f.ID})
		}
	}
}

// On a real OpenStack: from nothing, a second time, with things taken away. The catalogue's endpoints and the quotas, which others use, are left alone.
func TestLab(t *testing.T) {
	l := lab{t, openstacktest.Lab(t)}
	ctx := t.Context()
	l.clear(ctx)
	t.Cleanup(func() { l.clear(context.WithoutCancel(ctx)) }) // the test's own context has ended by then
	dir := t.TempDir()
	f := &fixture{host: &host{}, registry: &registry{images: map[string]string{}}}
	f.b = &bootstrap.Bootstrap{Services: l.s, Registry: f.registry, Host: f.host}
	f.w = bootstrap.Wanted{
		Only: []bootstrap.Part{
			bootstrap.PartProject, bootstrap.PartUser, bootstrap.PartRole, bootstrap.PartNetwork, bootstrap.PartSubnet, bootstrap.PartGroup, bootstrap.PartFlavor,
			bootstrap.PartImage, bootstrap.PartVersion,
		},
		Region: os.Getenv("OS_REGION_NAME"), User: labName, UserDomain: "Default", Project: "service", ProjectDomain: "Default", Role: "admin",
		PasswordFile: filepath.Join(dir, "password"), Network: labName, Group: labName, ControllerGroup: labName + "-controllers",
		Size: bootstrap.Size{Instances: 10, Controllers: 1}, Ports: []int{4222, 4223, 4224}, Host: "nowhere",
		Flavors: []bootstrap.Flavor{{Name: labName, RAM: 64, VCPUs: 1, Disk: 1}}, PrivateFlavors: true,
		Images: []bootstrap.ImageFile{imageFile(t, dir, labName, "1", "one")},
	}
	if first := f.run(t); len(first) < 9 {
		t.Errorf("of nothing it made %q", first)
	}
	if again := f.run(t); len(again) != 0 {
		t.Errorf("the second run changed %q", again)
	}

	network := l.open(l.s.Network)
	subnet := l.list(ctx, network, "subnets", url.Values{"name": {labName + "-subnet"}})
	change := func(path, id string, body map[string]any) {
		t.Helper()
		_, err := network.Put(t.Context(), network.ServiceURL(path, id), body, nil, &gophercloud.RequestOpts{OkCodes: []int{http.StatusOK}}) //nolint:bodyclose // it is read and closed
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		does func()
		want []string
	}{
		"the network is open": {
			func() {
				change("networks", l.list(ctx, network, "networks", url.Values{"name": {labName}})[0], map[string]any{"network": map[string]any{"shared": true}})
			}, []string{"change network " + labName},
		},
		"DHCP and a name server": {
			func() {
				change("subnets", subnet[0], map[string]any{"subnet": map[string]any{"enable_dhcp": true, "dns_nameservers": []string{"9.9.9.9"}}})
			}, []string{"change subnet " + labName + "-subnet"},
		},
		"guests may go out": {
			func() {
				group := l.list(ctx, network, "security_groups", url.Values{"name": {labName}})[0]
				body := map[string]any{"security_group_rule": map[string]any{"direction": "egress", "ethertype": "IPv4", "security_group_id": group}}
				if _, err := network.Post(t.Context(), network.ServiceURL("security-group-rules"), body, nil, nil); err != nil { //nolint:bodyclose // it is read and closed
					t.Fatal(err)
				}
			}, []string{"change security-group " + labName},
		},
		"a newer image": {
			func() { f.w.Images = []bootstrap.ImageFile{imageFile(t, dir, labName, "1", "two")} },
			nil,
		},
		"the password is another": {
			func() {
				f.w.ResetPassword = true
				if err := os.WriteFile(f.w.PasswordFile, []byte("another-password-of-the-test\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}, []string{"change user " + labName},
		},
	} {
		c.does()
		got := f.run(t)
		if c.want != nil && !slices.Equal(got, c.want) {
			t.Errorf("%s: %s", name, cmp.Diff(c.want, got))
		}
		if c.want == nil && len(got) != 3 { // uploaded, the older one hidden, the version changed
			t.Errorf("%s: %q", name, got)
		}
		if again := f.run(t); len(again) != 0 {
			t.Errorf("%s: and then it changed %q", name, again)
		}
	}
}
