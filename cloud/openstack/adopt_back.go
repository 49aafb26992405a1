package openstack

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
)

// Beginnings of descriptions by a Python Trove: of a port on a network of the tenant, of a security group.
const (
	userPortOf = "User port for trove instance "
	groupOf    = "Security group for trove instance "
)

// GiveBack is cloud.Adopter.GiveBack.
func (p *Provider) GiveBack(ctx context.Context, a cloud.Adoption) (string, error) {
	if _, err := p.FindMachine(ctx, a.Network.Instance); !trove.IsNotFound(err) {
		if err == nil {
			err = trove.Errorf(trove.KindConflict, "Instance %s has a machine of this service: it is removed first.", a.Network.Instance)
		}
		return "", err
	}
	defer p.lock(a.Network.Instance)()
	f, err := p.look(ctx, a)
	if err != nil {
		return "", err
	}
	if f.server == nil || f.volume == nil {
		return "", trove.Permanent(trove.Errorf(trove.KindNotFound, "The old server or the volume of instance %s is gone: there is no way back.", f.instance()))
	}
	if err := p.elsewhere(f); err != nil {
		return "", err
	}
	for i := range f.ports {
		if doing, err := p.givePort(ctx, f, &f.ports[i]); err != nil || doing != "" {
			return doing, err
		}
	}
	if err := p.dropNetwork(ctx, f.instance()); err != nil {
		return "", err
	}
	if doing, err := p.giveVolume(ctx, f); err != nil || doing != "" {
		return doing, err
	}
	switch {
	case f.server.Status == "ACTIVE" && f.server.Task == "":
		return p.dropSaved(ctx, f) // the data go on from it
	case f.server.Task != "":
		return "starting the old server", nil
	}
	return "starting the old server", p.act(ctx, f.ServerID, "os-start")
}

// givePort gives a port its name and groups of before, and attaches it.
func (p *Provider) givePort(ctx context.Context, f *foreign, o *port) (string, error) {
	if !slices.ContainsFunc(o.Tags, wasTag) {
		if f.ours(o) {
			return "", trove.Permanent(trove.Errorf(trove.KindConflict, "The port %s of instance %s was not taken over from another Trove.", o.ID, f.instance()))
		}
		return "", nil
	}
	switch o.Device { // attached first: a port that is neither ours nor the server's would not be found
	case f.ServerID:
	case "":
		return "attaching the port to the old server", p.attachPort(ctx, f.ServerID, o.ID)
	default:
		return "waiting for the port", nil
	}
	var name string
	groups, tags := []string{}, []string{}
	for _, t := range o.Tags {
		key, value, _ := strings.Cut(t, "=")
		switch key + "=" {
		case tagWas:
			name = value
		case tagGroup:
			groups = append(groups, value)
		case keyInstance + "=", keyDeployment + "=", keyProject + "=":
		default:
			tags = append(tags, t)
		}
	}
	if err := p.namePort(ctx, o.ID, name, userPortOf+f.instance(), groups); err != nil {
		return "", err
	}
	return "", p.tagPort(ctx, o.ID, tags)
}

func (p *Provider) attachPort(ctx context.Context, server, port string) error {
	r := p.nova(server, "os-interface")
	r.body = object{"interfaceAttachment": object{"port_id": port}}
	return passing(r.post(ctx))
}

// dropNetwork removes what of the network is ours alone: the management port and the security group.
func (p *Provider) dropNetwork(ctx context.Context, instance string) error {
	ports, err := p.ports(ctx, instance)
	if err != nil {
		return err
	}
	for _, each := range ports {
		if each.Name == managementPort(instance) {
			if err := p.neutron("ports", each.ID).remove(ctx); err != nil {
				return passing(err)
			}
		}
	}
	return p.removeGroups(ctx, instance)
}

// giveVolume makes the volume be as in the snapshot, once, and attaches it.
func (p *Provider) giveVolume(ctx context.Context, f *foreign) (string, error) {
	v := f.volume
	was, taken := v.Metadata[keyWas]
	if v.Status != "available" {
		if taken || v.Status != "in-use" {
			return "waiting for the volume", nil
		}
		return "", nil
	}
	if !taken { // given back already, and not attached yet; or never taken
		r := p.nova(f.ServerID, "os-volume_attachments")
		r.body = object{"volumeAttachment": object{"volumeId": v.ID, "device": "/dev/vdb"}}
		return "attaching the volume to the old server", passing(r.post(ctx))
	}
	s, err := p.savedVolume(ctx, f)
	if err != nil {
		return "", err
	}
	if s == nil {
		return "", trove.Permanent(trove.Errorf(trove.KindNotFound, "The snapshot %s is gone: there is no way back.", snapshotName(f.instance())))
	}
	const doing = "taking the volume back to the snapshot"
	metadata := maps.Clone(v.Metadata)
	if metadata[keyReverted] != s.ID {
		r := p.cinder("volumes", v.ID, "action")
		r.microversion, r.body = microRevert, object{"revert": object{"snapshot_id": s.ID}}
		if err := r.post(ctx); err != nil {
			return "", passing(err)
		}
		metadata[keyReverted] = s.ID
		return doing, p.describeVolume(ctx, v.ID, metadata)
	}
	if err := p.nameVolume(ctx, v.ID, was); err != nil {
		return "", err
	}
	for _, key := range []string{keyWas, keyReverted, keyInstance, keyDeployment, keyProject} {
		delete(metadata, key)
	}
	return doing, p.describeVolume(ctx, v.ID, metadata)
}

// FinishAdoption is cloud.Adopter.FinishAdoption.
func (p *Provider) FinishAdoption(ctx context.Context, a cloud.Adoption) (string, error) {
	defer p.lock(a.Network.Instance)()
	f, err := p.look(ctx, a)
	if err != nil {
		return "", err
	}
	if err := p.elsewhere(f); err != nil {
		return "", err
	}
	if f.volume != nil && slices.ContainsFunc(f.volume.Attachments, func(a attachment) bool { return a.ServerID == f.ServerID }) {
		return "", trove.Permanent(trove.Errorf(trove.KindConflict, "The volume of instance %s is attached to the old server, which has not been taken over.", f.instance()))
	}
	if f.server != nil && f.server.Status == "SOFT_DELETED" { // it has not our metadata, and was said to be the old one
		return "removing the old server", p.forceDelete(ctx, &f.server.server)
	}
	if f.server != nil {
		return "removing the old server", passing(p.nova(f.ServerID).remove(ctx))
	}
	for _, each := range f.own {
		if err := p.neutron("ports", each.ID).remove(ctx); err != nil {
			return "", passing(err)
		}
	}
	if err := p.dropOldGroups(ctx, f.instance()); err != nil {
		return "", err
	}
	return p.dropSaved(ctx, f)
}

// dropOldGroups removes the security group that the other Trove has made for the instance, unless somebody uses it for something else.
func (p *Provider) dropOldGroups(ctx context.Context, instance string) error {
	r := p.neutron("security-groups")
	r.query = url.Values{"description": {groupOf + instance}, "project_id": {p.cfg.Session.ProjectID()}}
	old, err := list[group](ctx, r, "security_groups")
	if err != nil {
		return err
	}
	for _, each := range old {
		if err := p.neutron("security-groups", each.ID).remove(ctx); err != nil && trove.KindOf(err) != trove.KindConflict {
			return passing(err)
		}
	}
	return nil
}
