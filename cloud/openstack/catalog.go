package openstack

import (
	"cmp"
	"context"
	"net/url"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
)

// as returns the session with which the catalogue is read: the caller's own where there is one. What he cannot see is not asked for in our name.
func (p *Provider) as(by cloud.Rights) *osclient.Session {
	if by.Token == "" {
		return p.cfg.Session
	}
	return p.cfg.Session.As(by.Token, by.Project)
}

// flavor is a flavor as Nova shows it.
type flavor struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	RAM   int    `json:"ram"`
	VCPUs int    `json:"vcpus"`
}

// told is the flavor in our words. Its disk is the root file system's, which is none of the data's.
func (f flavor) told() trove.Flavor {
	return trove.Flavor{ID: f.ID, Name: f.Name, RAM: f.RAM, VCPUs: f.VCPUs}
}

// Flavors is cloud.Catalog.Flavors, the smallest first.
func (p *Provider) Flavors(ctx context.Context, by cloud.Rights) ([]trove.Flavor, error) {
	found, err := list[flavor](ctx, request{of: p.as(by).Compute, path: []string{"flavors", "detail"}}, "flavors")
	if err != nil {
		return nil, err
	}
	all := make([]trove.Flavor, 0, len(found))
	for _, f := range found {
		all = append(all, f.told())
	}
	slices.SortFunc(all, func(a, b trove.Flavor) int {
		return cmp.Or(a.RAM-b.RAM, a.VCPUs-b.VCPUs, strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
	})
	return all, nil
}

// Flavor is cloud.Catalog.Flavor.
func (p *Provider) Flavor(ctx context.Context, by cloud.Rights, id string) (trove.Flavor, error) {
	missing := trove.Errorf(trove.KindNotFound, "Flavor %s cannot be found.", id)
	if id == "" {
		return trove.Flavor{}, missing
	}
	var body struct{ Flavor flavor }
	err := request{of: p.as(by).Compute, path: []string{"flavors", id}, into: &body}.get(ctx)
	if trove.IsNotFound(err) || err == nil && body.Flavor.ID != id {
		return trove.Flavor{}, missing
	}
	return body.Flavor.told(), err
}

// VolumeTypes is cloud.Catalog.VolumeTypes.
func (p *Provider) VolumeTypes(ctx context.Context, by cloud.Rights) ([]cloud.VolumeType, error) {
	found, err := list[struct {
		ID          string  `json:"id"`
		Name        string  `json:"name"`
		Description *string `json:"description"`
		IsPublic    bool    `json:"is_public"`
	}](ctx, request{of: p.as(by).Volume, path: []string{"types"}}, "volume_types")
	if err != nil {
		return nil, err
	}
	all := make([]cloud.VolumeType, 0, len(found))
	for _, t := range found {
		v := cloud.VolumeType{ID: t.ID, Name: t.Name, IsPublic: t.IsPublic}
		if t.Description != nil {
			v.Description = *t.Description
		}
		all = append(all, v)
	}
	return all, nil
}

// TenantNetworks is cloud.Catalog.TenantNetworks: those that the caller sees, without the management network and external ones. Without a token it is those of
// the project of the rights, shared ones, and the default network.
func (p *Provider) TenantNetworks(ctx context.Context, by cloud.Rights) ([]cloud.TenantNetwork, error) {
	of := p.as(by).Network
	networks, err := list[network](ctx, request{of: of, path: []string{"networks"}}, "networks")
	if err != nil {
		return nil, err
	}
	service := p.cfg.Session.ProjectID()
	networks = slices.DeleteFunc(networks, func(n network) bool {
		management := n.ID == p.cfg.ManagementNetwork || n.Name == p.cfg.ManagementNetwork && n.Project == service
		return n.External || management || len(n.Subnets) == 0 ||
			by.Token == "" && !n.Shared && n.Project != by.Project && (n.Name != p.cfg.DefaultNetwork || n.Project != service) && n.ID != p.cfg.DefaultNetwork
	})
	if len(networks) == 0 {
		return nil, nil
	}
	var subnets []subnet
	for some := range slices.Chunk(ids(networks), idsAtOnce) {
		found, err := list[subnet](ctx, request{of: of, path: []string{"subnets"}, query: url.Values{"network_id": some}}, "subnets")
		if err != nil {
			return nil, err
		}
		subnets = append(subnets, found...)
	}
	all := make([]cloud.TenantNetwork, 0, len(networks))
	for _, n := range networks {
		t := cloud.TenantNetwork{ID: n.ID, Name: n.Name}
		for _, s := range subnets {
			if s.Network == n.ID {
				t.Subnets = append(t.Subnets, cloud.Subnet{ID: s.ID, CIDR: s.CIDR})
			}
		}
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b cloud.TenantNetwork) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
	})
	return all, nil
}

func ids(networks []network) []string {
	all := make([]string, 0, len(networks))
	for _, n := range networks {
		all = append(all, n.ID)
	}
	return all
}

// idsAtOnce is how many ids a question has: Neutron's servers take addresses of 8 KiB.
const idsAtOnce = 100

// NetworkOf is cloud.NetworkOf.NetworkOf.
func (p *Provider) NetworkOf(ctx context.Context, by cloud.Rights) (string, error) {
	if p.cfg.DefaultNetwork != "" {
		n, err := p.network(ctx, p.cfg.DefaultNetwork, by.Project, nil)
		return n.ID, err
	}
	all, err := p.TenantNetworks(ctx, by)
	if err != nil {
		return "", err
	}
	switch len(all) {
	case 0:
		return "", bad("The project has no network with a subnet that the instance could be attached to: make one.")
	case 1:
		return all[0].ID, nil
	}
	return "", bad("The project has %d networks: name the one that the instance shall be attached to, with nics.", len(all))
}

// PublicAccess is cloud.PublicAccess.PublicAccess.
func (p *Provider) PublicAccess(context.Context) error {
	if p.cfg.PublicNetwork != "" {
		return nil
	}
	return bad("Instances cannot be public here: no external network is configured (openstack.public_network).")
}

// image is an image as Glance shows it.
type image struct {
	ID      string `json:"id"`
	Status  string `json:"status"`
	Size    int64  `json:"size"`
	Virtual *int64 `json:"virtual_size"`
	MinDisk int    `json:"min_disk"` // GiB
}

const gib = 1 << 30

// diskGiB is how large a volume has to be that the image is written to.
func (i *image) diskGiB() int {
	size := i.Size
	if i.Virtual != nil {
		size = max(size, *i.Virtual)
	}
	return max(i.MinDisk, int((size+gib-1)/gib), 1)
}

func (p *Provider) image(ctx context.Context, id string) (image, error) {
	missing := trove.Errorf(trove.KindNotFound, "Image %s cannot be found.", id)
	if !trove.ValidID(id) {
		return image{}, missing
	}
	var i image
	err := request{of: p.cfg.Session.Image, path: []string{"images", id}, into: &i}.get(ctx)
	switch {
	case trove.IsNotFound(err):
		return image{}, missing
	case err == nil && i.Status != "active":
		return image{}, trove.Errorf(trove.KindNotFound, "Image %s cannot be used: Glance says %s of it.", id, i.Status)
	}
	return i, err
}

// ImageExists is cloud.Catalog.ImageExists.
func (p *Provider) ImageExists(ctx context.Context, id string) error {
	_, err := p.image(ctx, id)
	return err
}
