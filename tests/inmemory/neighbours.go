package inmemory

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	identity "github.com/trove-dbaas/trove/identity/local"
)

// The neighbours are the few calls of Nova, Cinder and Neutron that dashboards and test suites of Trove make beside their calls of Trove: flavors, zones, volume
// types, networks, and the servers behind instances. There is a Swift that has no container: some pages are hidden without one. They tell of the fake cloud, so that what a client sees there is what the deployment made; nothing can be changed.

type object = map[string]any

// neighbours is what the catalogue has of them.
func (d *Deployment) neighbours() []identity.CatalogService {
	if !d.options.Neighbours {
		return nil
	}
	return []identity.CatalogService{
		{Type: "compute", Name: "nova", URL: d.URL + "/compute/v2.1"},
		{Type: "volumev3", Name: "cinder", URL: d.URL + "/volume/v3"},
		{Type: "object-store", Name: "swift", URL: d.URL + "/objects/v1/AUTH_any"}, // it has nothing: every answer is a 404
		{Type: "network", Name: "neutron", URL: d.URL + "/network"},
	}
}

func (d *Deployment) routeNeighbours(mux *http.ServeMux) {
	if !d.options.Neighbours {
		return
	}
	for path, answer := range map[string]func(r *http.Request) (any, error){
		"GET /compute/v2.1/{$}":            d.computeVersion,
		"GET /compute/v2.1/flavors/detail": d.flavors,
		"GET /compute/v2.1/flavors/{id}":   d.flavor,
		"GET /compute/v2.1/servers/detail": d.servers,
		"GET /compute/v2.1/extensions":     func(*http.Request) (any, error) { return object{"extensions": []object{}}, nil },
		"GET /compute/v2.1/os-availability-zone": func(*http.Request) (any, error) {
			return object{"availabilityZoneInfo": []object{{"zoneName": "nova", "zoneState": object{"available": true}, "hosts": nil}}}, nil
		},
		"GET /volume/v3/types":              d.volumeTypes,
		"GET /network/v2.0/extensions":      func(*http.Request) (any, error) { return object{"extensions": []object{}}, nil },
		"GET /network/v2.0/extensions.json": func(*http.Request) (any, error) { return object{"extensions": []object{}}, nil },
		"GET /network/v2.0/networks":        d.networks,
		"GET /network/v2.0/subnets":         d.subnets,
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			body, err := answer(r)
			if err != nil {
				http.Error(w, err.Error(), cmp.Or(map[trove.Kind]int{trove.KindNotFound: http.StatusNotFound}[trove.KindOf(err)], http.StatusInternalServerError))
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(body)
		})
	}
}

func (d *Deployment) computeVersion(*http.Request) (any, error) {
	return object{"version": object{
		"id": "v2.1", "status": "CURRENT", "version": "2.1", "min_version": "2.1",
		"links": []object{{"rel": "self", "href": d.URL + "/compute/v2.1/"}},
	}}, nil
}

func flavorBody(f trove.Flavor) object {
	return object{
		"id": f.ID, "name": f.Name, "ram": f.RAM, "vcpus": f.VCPUs, "disk": f.Disk, "OS-FLV-EXT-DATA:ephemeral": 0, "swap": "", "rxtx_factor": 1.0,
		"os-flavor-access:is_public": true, "OS-FLV-DISABLED:disabled": false, "links": []object{},
	}
}

func (d *Deployment) flavors(r *http.Request) (any, error) {
	all, err := d.cloud.Flavors(r.Context(), cloud.Rights{})
	bodies := make([]object, 0, len(all))
	for _, f := range all {
		bodies = append(bodies, flavorBody(f))
	}
	return object{"flavors": bodies}, err
}

func (d *Deployment) flavor(r *http.Request) (any, error) {
	f, err := d.cloud.Flavor(r.Context(), cloud.Rights{}, r.PathValue("id"))
	return object{"flavor": flavorBody(f)}, err
}

func (d *Deployment) volumeTypes(r *http.Request) (any, error) {
	found, err := d.cloud.VolumeTypes(r.Context(), cloud.Rights{})
	all := []object{}
	for _, v := range found {
		all = append(all, object{"id": v.ID, "name": v.Name, "description": v.Description, "is_public": v.IsPublic, "extra_specs": object{}})
	}
	return object{"volume_types": all}, err
}

// servers are the machines of the cloud under the names of their instances.
func (d *Deployment) servers(r *http.Request) (any, error) {
	machines, err := d.cloud.Machines(r.Context())
	if err != nil {
		return nil, err
	}
	all := []object{}
	for _, m := range machines {
		i, err := d.store.Instance(r.Context(), m.Instance)
		if err != nil {
			return nil, err
		}
		if name := r.URL.Query().Get("name"); name == "" || name == i.Name {
			all = append(all, serverBody(m, i))
		}
	}
	return object{"servers": all}, nil
}

// serverBody has all that Tempest's schema of a server demands.
func serverBody(m cloud.Machine, i trove.Instance) object {
	created := i.Created.UTC().Format("2006-01-02T15:04:05Z")
	return object{
		"id": m.ID, "name": i.Name, "status": "ACTIVE", "tenant_id": i.ProjectID, "user_id": "trove", "created": created, "updated": created, "hostId": "",
		"image": object{"id": m.ImageID, "links": []object{}}, "flavor": object{"id": m.FlavorID, "links": []object{}}, "links": []object{},
		"metadata": object{}, "addresses": object{}, "accessIPv4": "", "accessIPv6": "", "progress": 0, "config_drive": "", "key_name": nil,
		"OS-DCF:diskConfig": "MANUAL", "OS-EXT-AZ:availability_zone": "nova", "OS-EXT-STS:power_state": 1, "OS-EXT-STS:task_state": nil,
		"OS-EXT-STS:vm_state": "active", "OS-SRV-USG:launched_at": created, "OS-SRV-USG:terminated_at": nil,
		"os-extended-volumes:volumes_attached": []object{}, "security_groups": []object{},
	}
}

func (d *Deployment) networks(r *http.Request) (any, error) {
	found, err := d.cloud.TenantNetworks(r.Context(), cloud.Rights{})
	all := []object{}
	for _, n := range found {
		ids := []string{}
		for _, s := range n.Subnets {
			ids = append(ids, s.ID)
		}
		q := r.URL.Query()
		if q.Get("shared") == "True" || q.Get("router:external") == "True" || q.Has("id") && !slices.Contains(q["id"], n.ID) {
			continue
		}
		all = append(all, object{
			"id": n.ID, "name": n.Name, "subnets": ids, "tenant_id": q.Get("tenant_id"), "status": "ACTIVE", "admin_state_up": true, "shared": false,
			"router:external": false,
		})
	}
	return object{"networks": all}, err
}

func (d *Deployment) subnets(r *http.Request) (any, error) {
	found, err := d.cloud.TenantNetworks(r.Context(), cloud.Rights{})
	all := []object{}
	for _, n := range found {
		for _, s := range n.Subnets {
			all = append(all, object{
				"id": s.ID, "name": "", "network_id": n.ID, "cidr": s.CIDR, "ip_version": 4, "gateway_ip": nil, "enable_dhcp": false,
				"allocation_pools": []object{}, "dns_nameservers": []string{}, "host_routes": []object{},
			})
		}
	}
	return object{"subnets": all}, err
}
