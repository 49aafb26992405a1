package bootstrap

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/imagelayout"
)

// Registry is where datastore versions are known: the store.
type Registry interface {
	// VersionImage returns the image of the version that an image belongs to, "" if there is no such version.
	VersionImage(ctx context.Context, m imagelayout.Manifest) (string, error)
	// RegisterVersion makes the version have an image, with what the manifest says of the engine.
	RegisterVersion(ctx context.Context, m imagelayout.Manifest, image string) error
}

// Bootstrap looks at an OpenStack and changes it. It acts as an administrator.
type Bootstrap struct {
	Services Services
	Registry Registry
	Host     Host
}

// Look reads what there is of what is wanted.
func (b *Bootstrap) Look(ctx context.Context, w Wanted) (Found, error) {
	var f Found
	for _, part := range []func(context.Context, Wanted, *Found) error{
		b.lookIdentity, b.lookNetwork, b.lookPorts, b.lookFlavors, b.lookQuotas, b.lookImages,
	} {
		if err := part(ctx, w, &f); err != nil {
			return Found{}, err
		}
	}
	var err error
	if f.Config, err = readConfig(w.ConfigFile); err != nil {
		return Found{}, err
	}
	if f.Host, err = b.Host.Network(ctx); err != nil {
		return Found{}, err
	}
	return f, nil
}

func (b *Bootstrap) lookIdentity(ctx context.Context, w Wanted, f *Found) error {
	c, err := open(b.Services.Identity)
	if err != nil {
		return err
	}
	if f.ProjectDomainID, err = domain(ctx, c, w.ProjectDomain); err != nil {
		return err
	}
	if f.UserDomainID, err = domain(ctx, c, w.UserDomain); err != nil {
		return err
	}
	var found struct {
		Projects  []Named    `json:"projects"`
		Users     []Named    `json:"users"`
		Roles     []Named    `json:"roles"`
		Services  []Named    `json:"services"`
		Endpoints []Endpoint `json:"endpoints"`
	}
	if f.ProjectDomainID != "" {
		if err := c.get(ctx, &found, query("name", w.Project, "domain_id", f.ProjectDomainID), "projects"); err != nil {
			return fmt.Errorf("look for the project %s: %w", w.Project, err)
		}
	}
	if f.UserDomainID != "" {
		if err := c.get(ctx, &found, query("name", w.User, "domain_id", f.UserDomainID), "users"); err != nil {
			return fmt.Errorf("look for the user %s: %w", w.User, err)
		}
	}
	if err := c.get(ctx, &found, query("name", w.Role), "roles"); err != nil {
		return fmt.Errorf("look for the role %s: %w", w.Role, err)
	}
	if err := c.get(ctx, &found, query("type", "database"), "services"); err != nil {
		return fmt.Errorf("look for the service of the catalogue: %w", err)
	}
	f.Projects, f.Users, f.Services = found.Projects, found.Users, found.Services
	if len(found.Roles) > 0 {
		f.RoleID = found.Roles[0].ID
	}
	if len(f.Services) == 1 {
		if err := c.get(ctx, &found, query("service_id", f.Services[0].ID), "endpoints"); err != nil {
			return fmt.Errorf("look for the endpoints: %w", err)
		}
		f.Endpoints = found.Endpoints
	}
	return lookUser(ctx, c, w, f)
}

// lookUser finds out what the user may, and whether the password in the file is its own.
func lookUser(ctx context.Context, c rest, w Wanted, f *Found) (err error) {
	var secret password
	if secret, f.Password, err = readPassword(w.PasswordFile); err != nil || len(f.Users) == 0 {
		return err
	}
	if f.Password == PasswordKnown {
		f.Password = PasswordWrong
		if ok, err := logsIn(ctx, c, f.Users[0].ID, secret); err != nil {
			return fmt.Errorf("try the password of the user %s: %w", w.User, err)
		} else if ok {
			f.Password = PasswordGood
		}
	}
	if len(f.Projects) == 0 || f.RoleID == "" {
		return nil
	}
	var found struct {
		Assignments []struct{} `json:"role_assignments"`
	}
	q := query("user.id", f.Users[0].ID, "scope.project.id", f.Projects[0].ID, "role.id", f.RoleID, "effective", "")
	if err := c.get(ctx, &found, q, "role_assignments"); err != nil {
		return fmt.Errorf("look for the role of the user %s: %w", w.User, err)
	}
	f.Granted = len(found.Assignments) > 0
	return nil
}

// domain returns the id of a domain, "" if there is none of the name.
func domain(ctx context.Context, c rest, name string) (string, error) {
	var found struct {
		Domains []Named `json:"domains"`
	}
	if err := c.get(ctx, &found, query("name", name), "domains"); err != nil {
		return "", fmt.Errorf("look for the domain %s: %w", name, err)
	}
	if len(found.Domains) == 0 {
		return "", nil
	}
	return found.Domains[0].ID, nil
}

func (b *Bootstrap) lookNetwork(ctx context.Context, w Wanted, f *Found) error {
	c, err := open(b.Services.Network)
	if err != nil {
		return err
	}
	var found struct {
		Networks []Network `json:"networks"`
		Subnets  []Subnet  `json:"subnets"`
	}
	if err := c.get(ctx, &found, query(byNameOrID(w.Network), w.Network), "networks"); err != nil {
		return fmt.Errorf("look for the network %s: %w", w.Network, err)
	}
	f.Networks, f.Others = ofName(w.Network, found.Networks, f.project(), b.Services.ProjectID())
	if len(f.Networks) == 1 {
		if err := c.get(ctx, &found, query("network_id", f.Networks[0].ID, "ip_version", "4"), "subnets"); err != nil {
			return fmt.Errorf("look for the subnet: %w", err)
		}
		f.Subnets = found.Subnets
		if err := usage(ctx, c, f); err != nil {
			return err
		}
	}
	if len(f.Projects) == 0 {
		return nil
	}
	if f.Groups, err = securityGroups(ctx, c, w.Group, f.Projects[0].ID); err != nil {
		return err
	}
	f.Guards, err = securityGroups(ctx, c, w.ControllerGroup, f.Projects[0].ID)
	return err
}

// ofName returns the networks that a name or an id stands for: of a name those of the project, else those that the administrator has or that are shared or external.
// Any tenant may give a network of his own that name: others are not meant, and only told of.
func ofName(ref string, all []Network, project, admin string) (meant, others []Network) {
	if byNameOrID(ref) == "id" {
		return all, nil
	}
	for _, fits := range []func(Network) bool{
		func(n Network) bool { return project != "" && n.ProjectID == project },
		func(n Network) bool { return n.Shared || n.External || admin != "" && n.ProjectID == admin },
	} {
		for _, n := range all {
			if fits(n) {
				meant = append(meant, n)
			}
		}
		if len(meant) > 0 {
			return meant, nil
		}
	}
	return nil, all
}

// project is the id of the service project, "" while there is none.
func (f Found) project() string {
	if len(f.Projects) == 0 {
		return ""
	}
	return f.Projects[0].ID
}

// usage fills in how many addresses of the subnets are in use. A Neutron without that extension is no obstacle.
func usage(ctx context.Context, c rest, f *Found) error {
	var found struct {
		Availability struct {
			Subnets []struct {
				ID    string `json:"subnet_id"`
				Used  int    `json:"used_ips"`
				Total int    `json:"total_ips"`
			} `json:"subnet_ip_availability"`
		} `json:"network_ip_availability"`
	}
	err := c.get(ctx, &found, nil, "network-ip-availabilities", f.Networks[0].ID)
	if trove.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("count the addresses in use: %w", err)
	}
	for _, s := range found.Availability.Subnets {
		for n := range f.Subnets {
			if f.Subnets[n].ID == s.ID {
				f.Subnets[n].Used, f.Subnets[n].Total = s.Used, s.Total
			}
		}
	}
	return nil
}

func securityGroups(ctx context.Context, c rest, name, project string) ([]Group, error) {
	var found struct {
		Groups []Group `json:"security_groups"`
	}
	if err := c.get(ctx, &found, query(byNameOrID(name), name, "project_id", project), "security-groups"); err != nil {
		return nil, fmt.Errorf("look for the security group %s: %w", name, err)
	}
	for n := range found.Groups {
		found.Groups[n].Name = name // actions call it what we call it
	}
	return found.Groups, nil
}

// ControllerOwner is what the ports of controllers are marked with: by it they are found.
const ControllerOwner = "trove:controller"

func (b *Bootstrap) lookPorts(ctx context.Context, w Wanted, f *Found) error {
	c, err := open(b.Services.Network)
	if err != nil {
		return err
	}
	var found struct {
		Ports  []Port `json:"ports"`
		Agents []struct {
			Type  string `json:"agent_type"`
			Alive bool   `json:"alive"`
		} `json:"agents"`
	}
	if len(f.Networks) == 1 {
		if err := c.get(ctx, &found, query("network_id", f.Networks[0].ID, "device_owner", ControllerOwner), "ports"); err != nil {
			return fmt.Errorf("look for the ports of controllers: %w", err)
		}
		f.Ports = found.Ports
	}
	if w.Interface == "" {
		return nil
	}
	if err := c.get(ctx, &found, query("host", w.Host), "agents"); err != nil {
		return fmt.Errorf("look for agents on the host %s: %w", w.Host, err)
	}
	for _, a := range found.Agents {
		if a.Alive {
			f.Agents = append(f.Agents, a.Type)
		}
	}
	return nil
}

// page is how many flavors are asked for at a time: Nova has no filter for their names.
const page = 500

func (b *Bootstrap) lookFlavors(ctx context.Context, w Wanted, f *Found) error {
	if len(w.Flavors) == 0 || !w.Has(PartFlavor) {
		return nil
	}
	c, err := open(b.Services.Compute)
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, flavor := range w.Flavors {
		wanted[flavor.Name] = true
	}
	if f.Flavors, err = flavorsOf(ctx, c, wanted); err != nil {
		return err
	}
	return lookAccess(ctx, c, f)
}

// flavorsOf returns the flavors that have one of the names.
func flavorsOf(ctx context.Context, c rest, names map[string]bool) (all []Flavor, err error) {
	for marker := ""; ; {
		q := query("is_public", "none", "limit", strconv.Itoa(page))
		if marker != "" {
			q.Set("marker", marker)
		}
		var found struct {
			Flavors []Flavor   `json:"flavors"`
			More    []struct{} `json:"flavors_links"` // Nova has its own idea of how many are enough
		}
		if err := c.get(ctx, &found, q, "flavors", "detail"); err != nil {
			return nil, fmt.Errorf("look for flavors: %w", err)
		}
		for _, flavor := range found.Flavors {
			if marker = flavor.ID; names[flavor.Name] {
				all = append(all, flavor)
			}
		}
		if len(found.Flavors) == 0 || len(found.More) == 0 {
			return all, nil
		}
	}
}

// lookAccess finds out which of the private flavors the project may use.
func lookAccess(ctx context.Context, c rest, f *Found) error {
	if len(f.Projects) == 0 {
		return nil
	}
	for _, flavor := range f.Flavors {
		if flavor.Public {
			continue
		}
		var found struct {
			Access []struct {
				Project string `json:"tenant_id"`
			} `json:"flavor_access"`
		}
		if err := c.get(ctx, &found, nil, "flavors", flavor.ID, "os-flavor-access"); err != nil {
			return fmt.Errorf("look who may use the flavor %s: %w", flavor.Name, err)
		}
		for _, a := range found.Access {
			if a.Project == f.Projects[0].ID {
				f.Access = append(f.Access, flavor.ID)
			}
		}
	}
	return nil
}

func (b *Bootstrap) lookImages(ctx context.Context, w Wanted, f *Found) error {
	f.Versions = map[string]string{}
	if len(w.Images) == 0 || len(f.Projects) == 0 {
		return nil
	}
	c, err := open(b.Services.Image)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, file := range w.Images {
		m := file.Manifest
		if have, err := b.Registry.VersionImage(ctx, m); err != nil {
			return err
		} else if have != "" {
			f.Versions[m.ID] = have
		}
		if seen[m.Datastore+" "+m.Version] {
			continue
		}
		seen[m.Datastore+" "+m.Version] = true
		for _, hidden := range []string{"false", "true"} {
			found, err := imagesOf(ctx, c, m, hidden, f.Projects[0].ID)
			if err != nil {
				return err
			}
			f.Images = append(f.Images, found...)
		}
	}
	return nil
}

// imagesOf returns the images of a version that are hidden or not, all pages: how many are in one is Glance's to say.
func imagesOf(ctx context.Context, c rest, m imagelayout.Manifest, hidden, owner string) (all []Image, err error) {
	for marker := ""; ; {
		q := query("trove_datastore", m.Datastore, "trove_version", m.Version, "os_hidden", hidden, "sort", "created_at:asc", "owner", owner)
		if marker != "" {
			q.Set("marker", marker)
		}
		var found struct {
			Images []Image `json:"images"`
			Next   string  `json:"next"`
		}
		if err := c.get(ctx, &found, q, "images"); err != nil {
			return nil, fmt.Errorf("look for images of %s %s: %w", m.Datastore, m.Version, err)
		}
		all = append(all, found.Images...)
		if len(found.Images) == 0 || found.Next == "" {
			return all, nil
		}
		marker = found.Images[len(found.Images)-1].ID
	}
}

// Host is this machine's network.
type Host interface {
	Network(ctx context.Context) (HostNet, error)
	// Plug makes an interface with the port's hardware address and address, connected to where the agent finds it.
	Plug(ctx context.Context, agent, name string, p Port, mtu int, address netip.Prefix) error
	// Guard drops what comes into this machine by the bridge of a network.
	Guard(ctx context.Context, bridge string) error
}
