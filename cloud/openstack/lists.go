package openstack

import (
	"context"
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
)

// The lists of all that the deployment has are the only answers that grow with it, so they ask for little: names, and more of servers that are not active
// alone. Names say of which instance a thing is.

// pageSize is how many things of a list a service is asked for at once.
const pageSize = 500

// notActive are Nova's states of servers other than ACTIVE which are states of their own: the others (REBOOT, RESIZE, MIGRATING and the like) are those of
// servers that are active or stopped and have something done to them, and would bring all of these.
var notActive = []string{
	"BUILD", "ERROR", "PAUSED", "RESCUE", "SHELVED", "SHELVED_OFFLOADED", "SHUTOFF", "SUSPENDED", "VERIFY_RESIZE",
}

// short is a thing in a list that shows no more of it.
type short struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Description string `json:"description"` // Neutron's alone
}

// instance is whose server, data volume or port it is, "" for something else.
func (s *short) instance() string {
	id, ours := strings.CutPrefix(s.Name, nameOf(""))
	if !ours {
		id, ours = strings.CutPrefix(s.Description, described(""))
	}
	if !ours || !trove.ValidID(id) {
		return ""
	}
	return id
}

// paged is a query for things of the deployment.
func paged(r request, filter, value string, more url.Values) request {
	r.query = url.Values{filter: {value}, "limit": {strconv.Itoa(pageSize)}}
	maps.Copy(r.query, more)
	return r
}

// Machines is cloud.Machines.Machines. A server that is active counts as running, whatever is done to it and whether its guest has switched itself off, which
// Nova notices within minutes: FindMachine looks at it more closely.
func (p *Provider) Machines(ctx context.Context) ([]cloud.Machine, error) {
	found, err := list[short](ctx, paged(p.nova(), "tags", p.deploymentTag(), nil), "servers")
	if err != nil {
		return nil, err
	}
	others, err := list[server](ctx, paged(p.nova("detail"), "tags", p.deploymentTag(), url.Values{"status": notActive}), "servers")
	if err != nil {
		return nil, err
	}
	state := map[string]*server{}
	for i := range others {
		state[others[i].ID] = &others[i]
	}
	all := map[string]cloud.Machine{}
	for i := range found {
		instance := found[i].instance()
		if instance == "" || all[instance].State == cloud.MachineRunning {
			continue
		}
		m := cloud.Machine{ID: found[i].ID, Instance: instance, State: cloud.MachineRunning}
		if s := state[m.ID]; s != nil {
			m = seen(instance, s)
		}
		all[instance] = m
	}
	return inOrderOf(all), nil
}

// inOrderOf returns things in the order of their instances.
func inOrderOf[T any](all map[string]T) []T {
	var list []T
	for _, instance := range slices.Sorted(maps.Keys(all)) {
		list = append(list, all[instance])
	}
	return list
}

// Volumes is cloud.Volumes.Volumes. One that is being deleted is still there.
func (p *Provider) Volumes(ctx context.Context) ([]cloud.Volume, error) {
	filter, err := json.Marshal(map[string]string{keyDeployment: p.cfg.Deployment})
	if err != nil {
		return nil, err
	}
	found, err := list[short](ctx, paged(p.cinder("volumes"), "metadata", string(filter), nil), "volumes")
	if err != nil {
		return nil, err
	}
	all := map[string]cloud.Volume{}
	for i := range found {
		if instance := found[i].instance(); instance != "" {
			all[instance] = cloud.Volume{ID: found[i].ID, Instance: instance}
		}
	}
	return inOrderOf(all), nil
}

// Networks is cloud.Networks.Networks.
func (p *Provider) Networks(ctx context.Context) ([]cloud.Network, error) {
	ours := url.Values{"project_id": {p.cfg.Session.ProjectID()}, "fields": {"id", "description"}}
	all := map[string]cloud.Network{}
	for _, kind := range []string{"floatingips", "ports"} {
		found, err := list[short](ctx, paged(p.neutron(kind), "tags", p.deploymentTag(), ours), kind)
		if err != nil {
			return nil, err
		}
		for i := range found {
			if instance := found[i].instance(); instance != "" {
				all[instance] = cloud.Network{ID: found[i].ID, Instance: instance}
			}
		}
	}
	return inOrderOf(all), nil
}
