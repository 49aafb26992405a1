package compat_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/db/v1/datastores"
	"github.com/gophercloud/gophercloud/v2/openstack/db/v1/instances"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/tests/inmemory"
)

// patience is how long a change of an instance may take.
const patience = 2 * time.Minute

// login is somebody's account.
type login struct {
	user, project string
	password      trove.Secret
}

// server is the Trove that the clients talk to, and what they need to know of it.
type server struct {
	authURL       string
	region        string
	member, admin login
	projectID     string // the member's
	datastore     string
	version       string
	versionID     string
	image         string
	network       string // of an instance that names one
	manager       string
	parameter     string // of an integer that is changed without a restart
}

// startServer returns the server that the environment names, or one in this process:
//
//	COMPAT_AUTH_URL, COMPAT_REGION                           Keystone and the region
//	COMPAT_USERNAME, COMPAT_PASSWORD, COMPAT_PROJECT         a member
//	COMPAT_ADMIN_USERNAME, ..._PASSWORD, ..._PROJECT         an administrator
//	COMPAT_IMAGE, COMPAT_MANAGER                             image and manager of the datastore's default version, for new versions
//	COMPAT_NETWORK                                           id of a network, for Tempest
func startServer(t *testing.T) *server {
	t.Helper()
	return startServerWith(t, inmemory.Options{})
}

// startServerBeside is startServer with real MariaDB servers, and with Nova, Cinder and Neutron in the catalogue; a server that the environment names has all
// that already.
func startServerBeside(t *testing.T) *server {
	t.Helper()
	return startServerWith(t, inmemory.Options{Neighbours: true, Databases: inmemory.MariaDB("127.62.0.0/16", "127.63.0.0/16")})
}

func startServerWith(t *testing.T, o inmemory.Options) *server {
	t.Helper()
	s := &server{
		authURL: os.Getenv("COMPAT_AUTH_URL"), region: os.Getenv("COMPAT_REGION"), image: os.Getenv("COMPAT_IMAGE"), manager: os.Getenv("COMPAT_MANAGER"),
		network:   os.Getenv("COMPAT_NETWORK"),
		member:    login{os.Getenv("COMPAT_USERNAME"), os.Getenv("COMPAT_PROJECT"), trove.Secret(os.Getenv("COMPAT_PASSWORD"))},
		admin:     login{os.Getenv("COMPAT_ADMIN_USERNAME"), os.Getenv("COMPAT_ADMIN_PROJECT"), trove.Secret(os.Getenv("COMPAT_ADMIN_PASSWORD"))},
		parameter: "wait_timeout",
	}
	if s.authURL == "" {
		s.startOwn(t, o)
	}
	s.discover(t)
	return s
}

func (s *server) startOwn(t *testing.T, o inmemory.Options) {
	t.Helper()
	s.member, s.admin = login{"demo", "demo", trove.Secret(trove.NewID())}, login{"admin", "admin", trove.Secret(trove.NewID())}
	o.Accounts = []inmemory.Account{
		{User: s.member.user, Project: s.member.project, Password: s.member.password, Roles: []string{"member"}},
		{User: s.admin.user, Project: s.admin.project, Password: s.admin.password, Roles: []string{"admin", "member"}},
	}
	d, err := inmemory.StartWith(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if left := d.Leftovers(); len(left) > 0 && !t.Failed() {
			t.Errorf("left in the cloud: %v", left)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	s.authURL, s.region, s.image = d.URL+"/identity/v3", inmemory.Region, inmemory.ImageID
	s.network = inmemory.NetworkID
	if o.Databases.New == nil {
		s.manager, s.parameter = inmemory.Manager, inmemory.Parameter
	}
}

// client returns gophercloud's client of the database service.
func (s *server) client(t *testing.T, who login) *gophercloud.ServiceClient {
	t.Helper()
	provider, err := openstack.AuthenticatedClient(t.Context(), gophercloud.AuthOptions{
		IdentityEndpoint: s.authURL, Username: who.user, Password: who.password.Reveal(), TenantName: who.project, DomainName: "Default",
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := openstack.NewDBV1(provider, gophercloud.EndpointOpts{Region: s.region})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// discover asks what the clients are told of the server.
func (s *server) discover(t *testing.T) {
	t.Helper()
	c := s.client(t, s.member)
	auth, ok := c.GetAuthResult().(tokens.CreateResult)
	if !ok {
		t.Fatalf("the token is a %T", c.GetAuthResult())
	}
	project, err := auth.ExtractProject()
	if err != nil {
		t.Fatal(err)
	}
	s.projectID = project.ID
	pages, err := datastores.List(c).AllPages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	all, err := datastores.ExtractDatastores(pages)
	if err != nil || len(all) == 0 || len(all[0].Versions) == 0 {
		t.Fatalf("datastores: %+v, %v", all, err)
	}
	s.datastore, s.version, s.versionID = all[0].Name, all[0].Versions[0].Name, all[0].Versions[0].ID
}

// statusOf returns an instance's status, "gone" for one that is not there.
func statusOf(ctx context.Context, c *gophercloud.ServiceClient, id string) (string, error) {
	i, err := instances.Get(ctx, c, id).Extract()
	if gophercloud.ResponseCodeIs(err, 404) {
		return "gone", nil
	}
	if err != nil {
		return "", err
	}
	return i.Status, nil
}

// await waits until an instance has the status.
func await(ctx context.Context, c *gophercloud.ServiceClient, id, want string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		got, err := statusOf(ctx, c, id)
		if err != nil || got == want {
			return err
		}
		if got == "ERROR" {
			return errors.New("the instance is in ERROR")
		}
		if clock.Sleep(ctx, 50*time.Millisecond) != nil {
			return fmt.Errorf("the status is %s after %s, not %s", got, patience, want)
		}
	}
}
