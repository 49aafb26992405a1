package swift_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/backupstore/backupstoretest"
	"github.com/trove-dbaas/trove/backupstore/swift"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/openstacktest"
)

// lab is an empty store in a real Swift, whose containers are removed when the test ends.
func lab(t *testing.T, session *osclient.Session, change ...func(*swift.Config)) (s *swift.Store, prefix string) {
	t.Helper()
	prefix = "trovetest-" + rand.Text() + "-"
	t.Cleanup(func() { removeContainers(t, session, prefix) })
	return labStore(t, session, prefix, change...), prefix
}

func labStore(t *testing.T, session *osclient.Session, prefix string, change ...func(*swift.Config)) *swift.Store {
	t.Helper()
	cfg := swift.Config{Session: session, Prefix: prefix, Locks: &swift.Shared{Clock: clock.System{}}, Log: slog.New(slog.DiscardHandler)}
	for _, each := range change {
		each(&cfg)
	}
	s, err := swift.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ask is a request of Swift beside the driver, with a name escaped.
func ask(t *testing.T, session *osclient.Session, method, path string, into any, ok ...int) http.Header {
	t.Helper()
	client, err := session.ObjectStore()
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Request(context.WithoutCancel(t.Context()), method, client.Endpoint+path, &gophercloud.RequestOpts{OkCodes: ok, KeepResponseBody: true})
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	if into != nil {
		if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
			t.Fatal(err)
		}
	}
	return resp.Header
}

type row struct {
	Name string `json:"name"`
	Size int64  `json:"bytes"`
}

func removeContainers(t *testing.T, session *osclient.Session, prefix string) {
	t.Helper()
	var containers, objects []row
	ask(t, session, http.MethodGet, "?format=json&prefix="+url.QueryEscape(prefix), &containers, 200)
	for _, c := range containers {
		ask(t, session, http.MethodGet, c.Name+"?format=json", &objects, 200)
		for _, o := range objects {
			name := strings.ReplaceAll(url.PathEscape(o.Name), "%2F", "/")
			ask(t, session, http.MethodDelete, c.Name+"/"+name, nil, 204, 404)
		}
		ask(t, session, http.MethodDelete, c.Name, nil, 204, 404, 409) // a listing may lag
	}
}

func TestSuiteInTheLab(t *testing.T) {
	session := openstacktest.Lab(t)
	for name, change := range map[string][]func(*swift.Config){"whole": nil, "pieces": {small}} {
		t.Run(name, func(t *testing.T) {
			backupstoretest.Run(t, func(t *testing.T) backupstoretest.Setup {
				s, prefix := lab(t, session, change...)
				return backupstoretest.Setup{
					Store: s, Reopen: func(t *testing.T) backupstore.Store { return labStore(t, session, prefix, change...) },
				}
			})
		})
	}
}

// TestATenantsContainerInTheLab has the service write where a user of another project let it, in a real Swift.
func TestATenantsContainerInTheLab(t *testing.T) {
	service, tenant := openstacktest.Lab(t), openstacktest.LabTenant(t)
	client, err := tenant.ObjectStore()
	if err != nil {
		t.Fatal(err)
	}
	s := labStore(t, service, "", projects, small)
	at := backupstore.Container{Project: tenant.ProjectID(), Name: "trovetest-" + rand.Text()}
	t.Cleanup(func() { removeContainers(t, tenant, at.Name) })
	if err := put(t.Context(), s, at, "i/log", "text\n"); trove.KindOf(err) != trove.KindForbidden {
		t.Errorf("before: %v, want forbidden", err)
	}
	alice := backupstore.WithCaller(t.Context(), trove.Secret(client.Token()), tenant.ProjectID())
	if err := s.Prepare(alice, at); err != nil {
		t.Fatal(err)
	}
	large := strings.Repeat("0123456789", 30_000)
	for name, text := range map[string]string{"i/log": "text\n", "i/large": large} {
		if err := put(t.Context(), s, at, name, text); err != nil {
			t.Fatalf("the service writes %s: %v", name, err)
		}
		if o, err := s.Stat(alice, at, name); err != nil || o.SHA256 != backupstoretest.Sum(text) || o.Meta["lines"] != "1" {
			t.Errorf("the caller finds %+v, %v", o, err)
		}
	}
	// As other clients of Swift see it.
	if h := ask(t, tenant, http.MethodHead, at.Name+"/i/log", nil, 200); h.Get("X-Object-Meta-Lines") != "1" || h.Get("X-Delete-At") != "" {
		t.Errorf("the headers of the object are %v", h)
	}
	var objects []row
	ask(t, tenant, http.MethodGet, at.Name+"?format=json", &objects, 200)
	if want := []row{{"i/large", int64(len(large))}, {"i/log", 5}}; !slices.Equal(objects, want) {
		t.Errorf("the listing is %v, want %v", objects, want)
	}
	if n, err := s.RemoveAll(t.Context(), at, "i/"); n != 2 || err != nil {
		t.Errorf("removed %d, %v", n, err)
	}
}
