package openstack_test

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/cloudtest"
	"github.com/trove-dbaas/trove/cloud/openstack"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
)

// labFile names a file with the variables of OpenStack's clients for the service user, one `export NAME=value` a line, or several. With it the suite runs
// against that OpenStack, in a deployment of its own. TROVE_TEST_IMAGE (lab-tiny), TROVE_TEST_NETWORK (tenant, of whose project the instances are) and
// TROVE_TEST_MANAGEMENT (trove-management, a network and a security group) may be in it too, and TROVE_TEST_POOL, a size in GiB that the project's quota of Cinder has no room for, and
// TROVE_TEST_HOSTS, how many hosts Nova has. The image need not boot.
const labFile = "TROVE_OPENSTACK_TEST"

func labVariables(t *testing.T) map[string]string {
	t.Helper()
	path := os.Getenv(labFile)
	if path == "" {
		t.Skip(labFile + " names no file with the credentials of an OpenStack")
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := map[string]string{}
	for s := bufio.NewScanner(f); s.Scan(); {
		if strings.HasPrefix(s.Text(), "#") {
			continue
		}
		for word := range strings.FieldsSeq(s.Text()) {
			if name, value, ok := strings.Cut(word, "="); ok {
				all[name] = strings.Trim(value, `"'`)
			}
		}
	}
	return all
}

func labSession(t *testing.T, v map[string]string) *osclient.Session {
	t.Helper()
	s, err := osclient.New(t.Context(), osclient.Config{
		AuthURL: v["OS_AUTH_URL"], Username: v["OS_USERNAME"], Project: v["OS_PROJECT_NAME"], Region: v["OS_REGION_NAME"], Interface: v["OS_INTERFACE"],
		UserDomain: v["OS_USER_DOMAIN_NAME"], ProjectDomain: v["OS_PROJECT_DOMAIN_NAME"], Timeout: 2 * time.Minute, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Password: func() (trove.Secret, error) { return trove.Secret(v["OS_PASSWORD"]), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func labProvider(t *testing.T, v map[string]string, deployment string) *openstack.Provider {
	t.Helper()
	management := cmp.Or(v["TROVE_TEST_MANAGEMENT"], "trove-management")
	s := labSession(t, v)
	p, err := openstack.New(openstack.Config{
		Session: s, Deployment: deployment, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Wait: 3 * time.Minute, ManagementNetwork: management,
		ManagementSecurityGroup: management, DefaultNetwork: labNetwork(t, s, cmp.Or(v["TROVE_TEST_NETWORK"], "tenant")).ID, PublicNetwork: v["TROVE_TEST_PUBLIC"],
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func labImage(t *testing.T, s *osclient.Session, name string) string {
	t.Helper()
	c, err := s.Image()
	if err != nil {
		t.Fatal(err)
	}
	pages, err := images.List(c, images.ListOpts{Name: name}).AllPages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all, err := images.ExtractImages(pages)
	if err != nil || len(all) == 0 {
		t.Fatalf("there is no image %s: %v", name, err)
	}
	return all[0].ID
}

func labProject(t *testing.T, s *osclient.Session, network string) string {
	t.Helper()
	return labNetwork(t, s, network).ProjectID
}

func labNetwork(t *testing.T, s *osclient.Session, network string) networks.Network {
	t.Helper()
	c, err := s.Network()
	if err != nil {
		t.Fatal(err)
	}
	pages, err := networks.List(c, networks.ListOpts{Name: network}).AllPages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all, err := networks.ExtractNetworks(pages)
	if err != nil || len(all) == 0 {
		t.Fatalf("there is no network %s: %v", network, err)
	}
	return all[0]
}

// bootData is such as an instance gets; nobody listens there.
func bootData(instance string) []byte {
	data, err := json.Marshal(bus.BootData{
		Instance: instance, Engine: "mariadb", Token: "token-of-" + instance, EnrolURLs: []string{"https://10.77.0.1:4223/enrol"},
		CABundle: "-----BEGIN CERTIFICATE-----\n",
	})
	if err != nil {
		panic(fmt.Sprint(err)) // strings can be encoded
	}
	return data
}

func TestSuiteAgainstAnOpenStack(t *testing.T) {
	v := labVariables(t)
	pool, _ := strconv.Atoi(v["TROVE_TEST_POOL"])
	hosts, _ := strconv.Atoi(v["TROVE_TEST_HOSTS"])
	cloudtest.Run(t, func(t *testing.T) cloudtest.Setup {
		deployment := trove.NewID()
		p, s := labProvider(t, v, deployment), labSession(t, v)
		return cloudtest.Setup{
			Provider: p, Reopen: func(t *testing.T) cloud.Provider { return labProvider(t, v, deployment) }, BootData: bootData,
			ImageID: labImage(t, s, cmp.Or(v["TROVE_TEST_IMAGE"], "lab-tiny")), Project: labProject(t, s, cmp.Or(v["TROVE_TEST_NETWORK"], "tenant")),
			PoolGiB: pool, Hosts: hosts, Wait: 10 * time.Minute, Look: time.Second,
			Rules: func(t *testing.T, instance string) (trove.Access, []int) {
				access, open, err := p.Rules(t.Context(), instance)
				if err != nil {
					t.Fatal(err)
				}
				return access, open
			},
			Leftovers: func(t *testing.T) []string {
				all, err := p.Leftovers(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return all
			},
		}
	})
}
