package specs

import (
	"context"
	"fmt"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
)

// FlavorOf returns the instance's flavor. The catalogue may have lost it since the instance was made; then it is what is held of the quota.
func FlavorOf(ctx context.Context, c cloud.Catalog, i *trove.Instance) (trove.Flavor, error) {
	f, err := c.Flavor(ctx, cloud.AsService(), i.FlavorID)
	if trove.IsNotFound(err) {
		return trove.Flavor{ID: i.FlavorID, Name: i.FlavorID, RAM: i.Held[trove.QuotaRAM], VCPUs: 1}, nil
	}
	if err != nil {
		return f, fmt.Errorf("find flavor %s: %w", i.FlavorID, err)
	}
	return f, nil
}
