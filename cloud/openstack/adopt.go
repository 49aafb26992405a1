package openstack

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
)

var _ cloud.Adopter = (*Provider)(nil)

// What was there before an adoption is remembered where it was: the volume's name in its metadata, the port's name and groups in its tags.
const (
	keyWas      = "trove_was"
	tagWas      = "trove_was_name="
	tagGroup    = "trove_was_group="
	keyReverted = "trove_reverted"
)

const (
	microRevert = "3.40" // a volume as in its last snapshot
	// managementPortOf begins the description of the management port that a Python Trove makes.
	managementPortOf = "Management port for trove instance "
)

func snapshotName(instance string) string { return nameOf(instance) + "-before-adoption" }

// foreign is what another Trove has made.
type foreign struct {
	cloud.Adoption
	server *oldServer // nil: it is gone
	volume *oldVolume // likewise
	ports  []port     // on the tenant's networks, attached to the server or adopted
	own    []port     // others of the server
}

type oldServer struct {
	server
	Tenant string `json:"tenant_id"`
}

type oldVolume struct {
	volume
	Tenant string `json:"os-vol-tenant-attr:tenant_id"`
}

func (f *foreign) instance() string { return f.Network.Instance }

// ours reports whether a port belongs to the instance already.
func (f *foreign) ours(o *port) bool { return o.Description == described(f.instance()) }

// look reads what there is.
func (p *Provider) look(ctx context.Context, a cloud.Adoption) (*foreign, error) {
	if err := checkID(a.Network.Instance); err != nil {
		return nil, err
	}
	if a.ServerID != "" && !trove.ValidID(a.ServerID) || !trove.ValidID(a.VolumeID) {
		return nil, bad("Instance %s has no server or no volume that could be taken over.", a.Network.Instance)
	}
	f := &foreign{Adoption: a}
	if err := p.lookServer(ctx, f); err != nil {
		return nil, err
	}
	var v struct{ Volume oldVolume }
	r := p.cinder("volumes", a.VolumeID)
	r.into = &v
	switch err := r.get(ctx); {
	case err == nil:
		f.volume = &v.Volume
	case !trove.IsNotFound(err):
		return nil, err
	}
	return f, p.lookPorts(ctx, f)
}

// lookServer finds the server, where it is not named by the port on the management network that it has.
func (p *Provider) lookServer(ctx context.Context, f *foreign) error {
	if f.ServerID == "" {
		r := p.neutron("ports")
		r.query = p.former(f.instance())
		found, err := list[port](ctx, r, "ports")
		if err != nil || len(found) == 0 || found[0].Device == "" {
			return err
		}
		f.ServerID = found[0].Device
	}
	var s struct{ Server oldServer }
	r := p.nova(f.ServerID)
	r.into = &s
	if err := r.get(ctx); err != nil {
		return gone(err)
	}
	f.server = &s.Server
	return nil
}

// former are the ports on the management network that another Trove has made. They tell of the server also when that is gone. Only those of our project count:
// anybody can write this description, and any server's id, into a port of his own.
func (p *Provider) former(instance string) url.Values {
	return url.Values{"description": {managementPortOf + instance}, "project_id": {p.cfg.Session.ProjectID()}}
}

// elsewhere is what is wrong with a server that is not of our project: it is none of an instance that can be taken over, whoever says so.
func (p *Provider) elsewhere(f *foreign) error {
	project := p.cfg.Session.ProjectID()
	if f.server == nil || f.server.Tenant == project {
		return nil
	}
	return trove.Permanent(trove.Errorf(trove.KindConflict, "The server %s is in the project %s, and those of this service are in %s: nothing was done to it.", f.ServerID, f.server.Tenant, project))
}

// lookPorts finds the ports of the server, and those that were taken from it.
func (p *Provider) lookPorts(ctx context.Context, f *foreign) error {
	management, err := p.network(ctx, p.cfg.ManagementNetwork, "", nil)
	if err != nil {
		return notMade(err, "management network")
	}
	queries := []url.Values{p.ours(f.instance()), p.former(f.instance())}
	if f.ServerID != "" {
		queries = append(queries, url.Values{"device_id": {f.ServerID}, "project_id": {p.cfg.Session.ProjectID()}})
	}
	for _, query := range queries {
		r := p.neutron("ports")
		r.query = query
		found, err := list[port](ctx, r, "ports")
		if err != nil {
			return err
		}
		for _, each := range found {
			known := func(o port) bool { return o.ID == each.ID }
			switch {
			case slices.ContainsFunc(f.ports, known), slices.ContainsFunc(f.own, known), each.Name == managementPort(f.instance()):
			case !f.ours(&each) && (strings.HasPrefix(each.Description, managementPortOf) || each.Network == management.ID):
				f.own = append(f.own, each)
			default:
				f.ports = append(f.ports, each)
			}
		}
	}
	slices.SortFunc(f.ports, func(a, b port) int { return strings.Compare(a.ID, b.ID) })
	return nil
}

// FindForeign is cloud.Adopter.FindForeign.
func (p *Provider) FindForeign(ctx context.Context, a cloud.Adoption) (cloud.Foreign, error) {
	f, err := p.look(ctx, a)
	if err != nil {
		return cloud.Foreign{}, err
	}
	var out cloud.Foreign
	if f.server != nil {
		out.ServerID, out.Server, out.State = f.server.ID, f.server.Name, f.server.Status
	}
	if f.volume != nil {
		out.VolumeGiB = f.volume.Size
	}
	for _, each := range f.ports {
		for _, ip := range each.IPs {
			out.Addresses = append(out.Addresses, ip.Address)
		}
	}
	out.Adopted = f.adopted(p)
	out.Problems, err = p.problems(ctx, f)
	return out, err
}

func (f *foreign) adopted(p *Provider) bool {
	return f.volume != nil && p.tookVolume(f) && len(f.ports) > 0 && !slices.ContainsFunc(f.ports, func(o port) bool { return !f.ours(&o) || o.Device == f.ServerID })
}

// problems says what stands in the way.
func (p *Provider) problems(ctx context.Context, f *foreign) (all []string, err error) {
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	project := p.cfg.Session.ProjectID()
	switch {
	case f.server == nil:
		say("The old server %s is not there.", f.ServerID)
	case f.server.Tenant != project:
		say("The server %s is in the project %s, and those of this service are in %s: use the project of the other Trove as openstack.project.", f.ServerID, f.server.Tenant, project)
	case f.server.Status != "ACTIVE" && f.server.Status != "SHUTOFF":
		say("The server %s is %s: bring it to run, or stop it.", f.ServerID, f.server.Status)
	}
	switch {
	case f.volume == nil:
		say("There is no volume %s.", f.VolumeID)
	case f.volume.Tenant != project:
		say("The volume %s is in the project %s and not in %s.", f.VolumeID, f.volume.Tenant, project)
	case f.volume.failed():
		say("The volume %s is %s.", f.VolumeID, f.volume.Status)
	case slices.ContainsFunc(f.volume.Attachments, func(a attachment) bool { return a.ServerID != f.ServerID }):
		say("The volume %s is attached to another server.", f.VolumeID)
	}
	if len(f.ports) == 0 {
		say("The server %s has no port of the project %s on a network of the tenant.", f.ServerID, project)
	}
	for _, each := range f.ports {
		r := p.neutron("floatingips")
		r.query = url.Values{"port_id": {each.ID}}
		public, err := list[floatingIP](ctx, r, "floatingips")
		if err != nil {
			return nil, err
		}
		for _, ip := range public {
			say("The public address %s belongs to the tenant's project and leads to the port %s: make the instance not public in the other Trove first, and public again here. The address will be another one.",
				ip.Address, each.ID)
		}
	}
	return all, nil
}

// Adopt is cloud.Adopter.Adopt.
func (p *Provider) Adopt(ctx context.Context, a cloud.Adoption) (string, error) {
	rules, err := wantedRules(a.Network)
	if err != nil {
		return "", err
	}
	defer p.lock(a.Network.Instance)()
	f, err := p.look(ctx, a)
	if err != nil || f.adopted(p) {
		return "", err
	}
	if problems, err := p.problems(ctx, f); err != nil || len(problems) > 0 {
		if err == nil {
			err = trove.Permanent(bad("Instance %s cannot be taken over. %s", f.instance(), strings.Join(problems, " ")))
		}
		return "", err
	}
	for _, step := range []func(context.Context, *foreign) (string, error){p.stopOld, p.saveVolume, p.takeVolume} {
		if doing, err := step(ctx, f); err != nil || doing != "" {
			return doing, err
		}
	}
	group, _, err := p.ensureGroup(ctx, a.Network, rules)
	if err != nil {
		return "", passing(err)
	}
	for i := range f.ports {
		if doing, err := p.takePort(ctx, f, i, group); err != nil || doing != "" {
			return doing, err
		}
	}
	return "", nil
}

// stopOld stops the server: a volume that is taken from a running database would be as after a loss of power.
func (p *Provider) stopOld(ctx context.Context, f *foreign) (string, error) {
	const doing = "stopping the old server"
	switch {
	case f.server.Status == "SHUTOFF" && f.server.Task == "":
		return "", nil
	case f.server.Task != "":
		return doing, nil
	}
	// A snapshot of a time before would be a way back to data that are older.
	if doing, err := p.dropSaved(ctx, f); err != nil || doing != "" {
		return doing, err
	}
	return doing, p.act(ctx, f.ServerID, "os-stop")
}

// dropSaved removes the snapshot.
func (p *Provider) dropSaved(ctx context.Context, f *foreign) (string, error) {
	const doing = "removing the snapshot"
	s, err := p.savedVolume(ctx, f)
	if err != nil || s == nil {
		return "", err
	}
	if s.Status == "deleting" {
		return doing, nil
	}
	return doing, passing(p.cinder("snapshots", s.ID).remove(ctx))
}

// snapshot is one of Cinder.
type snapshot struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Status string `json:"status"`
	Volume string `json:"volume_id"`
}

func (p *Provider) savedVolume(ctx context.Context, f *foreign) (*snapshot, error) {
	r := p.cinder("snapshots")
	r.query = url.Values{"volume_id": {f.VolumeID}, "name": {snapshotName(f.instance())}}
	all, err := list[snapshot](ctx, r, "snapshots")
	for i := range all {
		if all[i].Name == snapshotName(f.instance()) && all[i].Volume == f.VolumeID {
			return &all[i], err
		}
	}
	return nil, err
}

// saveVolume takes the snapshot that is the way back. Nothing of the volume is changed before it is there.
func (p *Provider) saveVolume(ctx context.Context, f *foreign) (string, error) {
	const doing = "taking a snapshot of the volume"
	s, err := p.savedVolume(ctx, f)
	switch {
	case err != nil:
		return "", err
	case s == nil:
		r := p.cinder("snapshots")
		r.body = object{"snapshot": object{
			"volume_id": f.VolumeID, "name": snapshotName(f.instance()), "force": true, "metadata": p.metadata(f.instance(), f.Network.Project),
			"description": "The data as the other Trove has left them",
		}}
		return doing, passing(r.post(ctx))
	case strings.HasPrefix(s.Status, "error"):
		return "", trove.Permanent(trove.Errorf(trove.KindInternal, "Cinder says %s of the snapshot %s: remove it and begin again.", s.Status, s.ID))
	case s.Status != "available":
		return doing, nil
	}
	return "", nil
}

// takeVolume detaches the volume and gives it our name.
func (p *Provider) takeVolume(ctx context.Context, f *foreign) (string, error) {
	const doing = "detaching the volume from the old server"
	v := f.volume
	switch {
	case v.Status == "in-use":
		return doing, p.detach(ctx, f.ServerID, v.ID)
	case v.Status != "available":
		return doing, nil
	case p.tookVolume(f):
		return "", nil
	}
	metadata := p.metadata(f.instance(), f.Network.Project)
	maps.Copy(metadata, v.Metadata)
	metadata[keyDeployment] = p.cfg.Deployment
	if _, known := metadata[keyWas]; !known {
		metadata[keyWas] = v.Name
	}
	if err := p.describeVolume(ctx, v.ID, metadata); err != nil {
		return "", err
	}
	return "", p.nameVolume(ctx, v.ID, nameOf(f.instance()))
}

func (p *Provider) tookVolume(f *foreign) bool {
	return f.volume.Metadata[keyDeployment] == p.cfg.Deployment && f.volume.Name == nameOf(f.instance())
}

func (p *Provider) nameVolume(ctx context.Context, id, name string) error {
	r := p.cinder("volumes", id)
	r.body = object{"volume": object{"name": name}}
	return passing(r.put(ctx))
}

// describeVolume gives a volume this metadata and no other.
func (p *Provider) describeVolume(ctx context.Context, id string, metadata map[string]string) error {
	r := p.cinder("volumes", id, "metadata")
	r.body = object{"metadata": metadata}
	return passing(r.put(ctx))
}

// takePort makes a port the instance's, with its addresses, and detaches it: in this order, because a port that is neither the instance's nor the server's is not found.
func (p *Provider) takePort(ctx context.Context, f *foreign, n int, group string) (string, error) {
	o := &f.ports[n]
	if !f.ours(o) {
		tags := o.Tags
		if !slices.ContainsFunc(tags, wasTag) {
			tags = append(append(tags, p.tags(f.instance(), f.Network.Project)...), tagWas+o.Name)
			for _, g := range o.Groups {
				tags = append(tags, tagGroup+g)
			}
		}
		if err := p.tagPort(ctx, o.ID, tags); err != nil {
			return "", err
		}
		if err := p.namePort(ctx, o.ID, portName(f.instance(), n), described(f.instance()), []string{group}); err != nil {
			return "", err
		}
	}
	if o.Device != f.ServerID {
		return "", nil
	}
	return "detaching the port from the old server", passing(p.nova(f.ServerID, "os-interface", o.ID).remove(ctx))
}

// wasTag reports whether a tag says what there was before.
func wasTag(tag string) bool { return strings.HasPrefix(tag, tagWas) }

func (p *Provider) tagPort(ctx context.Context, id string, tags []string) error {
	r := p.neutron("ports", id, "tags")
	r.body = object{"tags": tags}
	return r.put(ctx)
}

func (p *Provider) namePort(ctx context.Context, id, name, description string, groups []string) error {
	r := p.neutron("ports", id)
	r.body = object{"port": object{"name": name, "description": description, "security_groups": groups}}
	return r.put(ctx)
}
