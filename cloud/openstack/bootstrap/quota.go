package bootstrap

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/gophercloud/gophercloud/v2"
)

// quotaPlace is where a service keeps the quotas of a project.
type quotaPlace struct {
	name   string
	client func() (*gophercloud.ServiceClient, error)
	body   string   // what is around the limits
	path   []string // before the project
	detail []string // after it, to see what is used
}

func (b *Bootstrap) quotaPlaces() []quotaPlace {
	return []quotaPlace{
		{name: "compute", client: b.Services.Compute, body: "quota_set", path: []string{"os-quota-sets"}, detail: []string{"detail"}},
		{name: "volume", client: b.Services.Volume, body: "quota_set", path: []string{"os-quota-sets"}},
		{name: "network", client: b.Services.Network, body: "quota", path: []string{"quotas"}, detail: []string{"details.json"}},
	}
}

// lookQuotas reads the limits of the project. A service that is not there has none.
func (b *Bootstrap) lookQuotas(ctx context.Context, w Wanted, f *Found) error {
	if !w.Has(PartQuota) || len(f.Projects) == 0 {
		return nil
	}
	for _, place := range b.quotaPlaces() {
		c, err := open(place.client)
		if absent(err) {
			continue
		}
		if err != nil {
			return err
		}
		q := query()
		if place.detail == nil {
			q.Set("usage", "True")
		}
		var found map[string]map[string]json.RawMessage
		if err := c.get(ctx, &found, q, slices.Concat(place.path, []string{f.Projects[0].ID}, place.detail)...); err != nil {
			return fmt.Errorf("look for the quota of the project in the service %s: %w", place.name, err)
		}
		for resource, value := range found[place.body] {
			var quota struct {
				Limit int `json:"limit"`
				InUse int `json:"in_use"` // Nova and Cinder
				Used  int `json:"used"`   // Neutron
			}
			if json.Unmarshal(value, &quota) == nil { // the project's id is among them
				f.Quotas = append(f.Quotas, Quota{Service: place.name, Resource: resource, Limit: quota.Limit, Used: quota.InUse + quota.Used})
			}
		}
	}
	return nil
}
