package local_test

import (
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/cloudtest"
)

func TestCloud(t *testing.T) {
	cloudtest.Run(t, func(t *testing.T) cloudtest.Setup {
		t.Helper()
		d := deploy(t)
		return cloudtest.Setup{
			Provider: d.Provider,
			Reopen:   func(t *testing.T) cloud.Provider { t.Helper(); return d.open(t) },
			ImageID:  imageID,
			PoolGiB:  d.config.PoolGiB + 1,
			Hosts:    1,
			Rules: func(t *testing.T, id string) (trove.Access, []int) {
				t.Helper()
				n, err := d.net.FindInstance(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				var access trove.Access
				for _, p := range n.Access {
					access.AllowedCIDRs = append(access.AllowedCIDRs, p.String())
				}
				return access, n.TCPPorts
			},
			Leftovers: func(t *testing.T) []string { t.Helper(); return ofInstances(d.Provider, everything(t)) },
		}
	})
}
