package main

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/trove-dbaas/trove/cloud/openstack/bootstrap"
	"github.com/trove-dbaas/trove/cloud/openstack/bootstrap/bootstraptest"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
	"github.com/trove-dbaas/trove/internal/config"
)

func TestOpenStackStories(t *testing.T) {
	f := bootstraptest.New(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/openstack",
		Setup: func(env *testscript.Env) error {
			for name, value := range map[string]string{
				"OS_AUTH_URL": f.URL + "/identity/v3", "OS_USERNAME": "admin", "OS_PASSWORD": bootstraptest.AdminPassword, "OS_PROJECT_NAME": "admin",
				"OS_USER_DOMAIN_NAME": "Default", "OS_PROJECT_DOMAIN_NAME": "Default", "OS_REGION_NAME": "R",
			} {
				env.Setenv(name, value)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// made says that these calls, and perhaps others, were made that change something since it was asked last; without any: that none was.
			"made": func(ts *testscript.TestScript, _ bool, calls []string) {
				all := f.Made()
				if len(calls) == 0 && len(all) > 0 {
					ts.Fatalf("calls were made that change something: %q", all)
				}
				for _, c := range calls {
					if !slices.Contains(all, c) {
						ts.Fatalf("%q was not called, but %q", c, all)
					}
				}
			},
		},
	})
}

// TestAnAPIWithACertificateOfTheCloudsAuthorityIsTakenForDead: what a check asks the API with believes the authority that OpenStack's certificates are of.
func TestAnAPIWithACertificateOfTheCloudsAuthorityIsTakenForDead(t *testing.T) {
	api := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer api.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	client, err := (&openstack{w: bootstrap.Wanted{CAFile: ca}}).client()
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, api.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
}

// TestACertificateFileOfTheLoginIsLookedForWhereTheServiceRuns: what a login names from here is written down for a service that runs elsewhere.
func TestACertificateFileOfTheLoginIsLookedForWhereTheServiceRuns(t *testing.T) {
	var o openstackOptions
	c := &cobra.Command{}
	o.flags(c)
	w, err := o.wanted(c, config.Default(), osclient.Config{CAFile: "ca.pem"})
	here, bad := filepath.Abs("ca.pem")
	if err != nil || bad != nil || w.CAFile != here {
		t.Errorf("%q, %v, %v", w.CAFile, err, bad)
	}
}
