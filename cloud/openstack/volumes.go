package openstack

import (
	"cmp"
	"context"
	"maps"
	"net/url"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
)

// Microversions of Cinder.
const (
	microMessages = "3.5"  // what went wrong, in words
	microAttached = "3.27" // attachments that can be removed
	microOnline   = "3.42" // growing while in use
)

// volume is a volume as Cinder shows it.
type volume struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Status      string            `json:"status"`
	Size        int               `json:"size"`
	Created     stamp             `json:"created_at"`
	Metadata    map[string]string `json:"metadata"`
	Attachments []attachment      `json:"attachments"`
	Encrypted   bool              `json:"encrypted"`
}

// keyRefused is in the metadata of a volume that was made encrypted: nothing was ever written to it.
const keyRefused = "trove_refused"

type attachment struct {
	ServerID     string `json:"server_id"`
	AttachmentID string `json:"attachment_id"`
}

// reservation is an attachment as Cinder shows it by itself, attached or not.
type reservation struct {
	ID     string `json:"id"`
	Server string `json:"instance"`
	Volume string `json:"volume_id"`
}

// failed reports whether the volume will not get better by itself.
func (v *volume) failed() bool { return strings.HasPrefix(v.Status, "error") }

// ready reports whether it can be used, or is.
func (v *volume) ready() bool { return v.Status == "available" || v.Status == "in-use" }

func (p *Provider) cinder(path ...string) request {
	return request{of: p.cfg.Session.Volume, path: path}
}

// volumesNamed returns the volumes of a name, the one that counts first: one that is attached, then one that did not fail, then the oldest.
func (p *Provider) volumesNamed(ctx context.Context, name string) ([]volume, error) {
	r := p.cinder("volumes", "detail")
	r.query = url.Values{"name": {name}}
	found, err := list[volume](ctx, r, "volumes")
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(v volume) bool { return v.Name != name || v.Metadata[keyDeployment] != p.cfg.Deployment })
	slices.SortFunc(found, firstVolume)
	return found, nil
}

func firstVolume(a, b volume) int {
	return cmp.Or(
		boolean(len(a.Attachments) == 0)-boolean(len(b.Attachments) == 0),
		boolean(a.leaving())-boolean(b.leaving()),
		strings.Compare(a.Created.text(), b.Created.text()), strings.Compare(a.ID, b.ID),
	)
}

// leaving reports whether a volume is one to do without, if there is another.
func (v *volume) leaving() bool { return v.Status == "deleting" || v.failed() }

// named returns the volume of a name that counts, NotFound without one.
func (p *Provider) named(ctx context.Context, name string) (volume, error) {
	all, err := p.volumesNamed(ctx, name)
	if err != nil {
		return volume{}, err
	}
	if len(all) == 0 || all[0].Status == "deleting" {
		return volume{}, trove.Errorf(trove.KindNotFound, "There is no volume %s.", name)
	}
	return all[0], nil
}

// volume returns the data volume of an instance.
func (p *Provider) volume(ctx context.Context, instance string) (volume, error) {
	return p.named(ctx, nameOf(instance))
}

// told is the volume in the port's words.
func (p *Provider) told(ctx context.Context, instance string, v *volume) cloud.Volume {
	out := cloud.Volume{ID: v.ID, Instance: instance, SizeGiB: v.Size, Ready: v.ready()}
	if v.failed() {
		out.Failed = p.whyVolume(ctx, v)
	}
	if v.Metadata[keyRefused] != "" {
		out.Ready, out.Failed = false, "It is encrypted by its type, and a guest could not tell it from one with somebody's data. Choose another volume type."
	}
	return out
}

// whyVolume says what is wrong with a volume, with the last of Cinder's own messages about it where there is one.
func (p *Provider) whyVolume(ctx context.Context, v *volume) string {
	said := "Cinder says " + v.Status + " of the volume " + v.ID
	r := p.cinder("messages")
	r.microversion, r.query = microMessages, url.Values{"resource_uuid": {v.ID}}
	all, err := list[struct {
		Message string `json:"user_message"`
		Request string `json:"request_id"`
	}](ctx, r, "messages")
	if err != nil || len(all) == 0 {
		return said + "."
	}
	return said + ": " + strings.TrimRight(all[0].Message, ". ") + " (request " + all[0].Request + ")."
}

// EnsureVolume is cloud.Volumes.EnsureVolume.
func (p *Provider) EnsureVolume(ctx context.Context, s cloud.VolumeSpec) (cloud.Volume, error) {
	if err := checkID(s.Instance); err != nil {
		return cloud.Volume{}, err
	}
	if s.SizeGiB <= 0 {
		return cloud.Volume{}, bad("A volume of %d GiB cannot be made.", s.SizeGiB)
	}
	defer p.lock(s.Instance)()
	all, err := p.volumesNamed(ctx, nameOf(s.Instance))
	if err != nil {
		return cloud.Volume{}, err
	}
	made := len(all) == 0
	if made {
		if err := p.makeVolume(ctx, s); err != nil {
			return cloud.Volume{}, err
		}
		if all, err = p.volumesNamed(ctx, nameOf(s.Instance)); err != nil || len(all) == 0 {
			return cloud.Volume{Instance: s.Instance, SizeGiB: s.SizeGiB}, err
		}
	}
	if err := p.dropSurplus(ctx, s.Instance, all[1:]); err != nil {
		return cloud.Volume{}, err
	}
	if v := &all[0]; v.Encrypted && (made || v.Status == "creating") {
		if err := p.refuse(ctx, v); err != nil {
			return cloud.Volume{}, err
		}
	}
	return p.sized(ctx, s, &all[0])
}

// refuse notes that a volume which has just been made is encrypted. Later that tells nothing: one with data, of an instance that was taken over, may be too.
func (p *Provider) refuse(ctx context.Context, v *volume) error {
	if v.Metadata[keyRefused] != "" {
		return nil
	}
	metadata := map[string]string{keyRefused: "encrypted"}
	maps.Copy(metadata, v.Metadata)
	v.Metadata = metadata
	return p.describeVolume(ctx, v.ID, metadata)
}

func (p *Provider) makeVolume(ctx context.Context, s cloud.VolumeSpec) error {
	o := object{"name": nameOf(s.Instance), "size": s.SizeGiB, "metadata": p.metadata(s.Instance, s.Project)}
	if kind := cmp.Or(s.Type, p.cfg.VolumeType); kind != "" {
		o["volume_type"] = kind
	}
	r := p.cinder("volumes")
	r.body = object{"volume": p.placed(o, s.Zone)}
	return asBad(r.post(ctx))
}

// dropSurplus removes volumes that do not count. One that is attached has data of somebody, and is left alone; one whose state does not let it go now goes when it
// is looked at next, or with the instance.
func (p *Provider) dropSurplus(ctx context.Context, instance string, surplus []volume) error {
	for i := range surplus {
		v := &surplus[i]
		if len(v.Attachments) > 0 || v.Status != "available" && !v.failed() {
			continue
		}
		p.cfg.Log.WarnContext(ctx, "surplus volume is removed", "instance", instance, "volume", v.ID)
		if err := p.cinder("volumes", v.ID).remove(ctx); err != nil && trove.KindOf(err) != trove.KindBadRequest {
			return passing(err)
		}
	}
	return nil
}

// sized makes a volume that is there have the size.
func (p *Provider) sized(ctx context.Context, s cloud.VolumeSpec, v *volume) (cloud.Volume, error) {
	switch {
	case v.Status == "deleting":
		return cloud.Volume{}, trove.Errorf(trove.KindUnavailable, "A former volume of the instance is still being deleted.")
	case s.SizeGiB < v.Size:
		return cloud.Volume{}, bad("The volume has %d GiB and cannot shrink to %d GiB.", v.Size, s.SizeGiB)
	case v.Status == "error_extending":
		return p.notGrown(ctx, s.Instance, v)
	case s.SizeGiB == v.Size || !v.ready():
		return p.told(ctx, s.Instance, v), nil
	}
	r := p.cinder("volumes", v.ID, "action")
	r.body = object{"os-extend": object{"new_size": s.SizeGiB}}
	if v.Status == "in-use" {
		r.microversion = microOnline
	}
	if err := r.post(ctx); err != nil {
		return cloud.Volume{}, passing(err)
	}
	return cloud.Volume{ID: v.ID, Instance: s.Instance, SizeGiB: v.Size}, nil
}

// notGrown says that growing a volume failed, and brings it back into the state from which it can be used, and grown again: left alone Cinder would let it
// neither be detached nor removed.
func (p *Provider) notGrown(ctx context.Context, instance string, v *volume) (cloud.Volume, error) {
	why := p.whyVolume(ctx, v)
	status := "available"
	if len(v.Attachments) > 0 {
		status = "in-use"
	}
	r := p.cinder("volumes", v.ID, "action")
	r.body = object{"os-reset_status": object{"status": status}}
	if err := r.post(ctx); err != nil {
		return cloud.Volume{}, err
	}
	p.cfg.Log.WarnContext(ctx, "volume was not grown and is as before", "instance", instance, "volume", v.ID, "size", v.Size, "why", why)
	return cloud.Volume{ID: v.ID, Instance: instance, SizeGiB: v.Size, Failed: "It was not grown and has its size of before. " + why}, nil
}

// FindVolume is cloud.Volumes.FindVolume.
func (p *Provider) FindVolume(ctx context.Context, instance string) (cloud.Volume, error) {
	if err := checkID(instance); err != nil {
		return cloud.Volume{}, err
	}
	v, err := p.volume(ctx, instance)
	if err != nil {
		return cloud.Volume{}, err
	}
	return p.told(ctx, instance, &v), nil
}

// RemoveVolume is cloud.Volumes.RemoveVolume. It returns when the volume is gone.
func (p *Provider) RemoveVolume(ctx context.Context, instance string) error {
	if err := checkID(instance); err != nil {
		return err
	}
	defer p.lock(instance)()
	if err := p.removeVolumes(ctx, previousName(instance)); err != nil {
		return err
	}
	return p.removeVolumes(ctx, nameOf(instance))
}

// removeVolumes removes all volumes of a name.
func (p *Provider) removeVolumes(ctx context.Context, name string) error {
	asked := map[string]bool{}
	return p.until(ctx, "Cinder has not removed the volume "+name+" yet.", func(ctx context.Context) (bool, error) {
		all, err := p.volumesNamed(ctx, name)
		if err != nil {
			return false, err
		}
		for i := range all {
			if asked[all[i].ID] {
				continue
			}
			if asked[all[i].ID], err = p.removeOne(ctx, &all[i]); err != nil {
				return false, err
			}
		}
		return len(all) == 0, nil
	})
}

// removeOne asks for the end of a volume, if its state lets it be asked for now.
func (p *Provider) removeOne(ctx context.Context, v *volume) (asked bool, err error) {
	switch v.Status {
	case "deleting":
		return true, nil
	case "available", "error", "error_extending", "error_restoring":
		return true, passing(p.cinder("volumes", v.ID).remove(ctx))
	case "error_deleting":
		r := p.cinder("volumes", v.ID, "action")
		r.body = object{"os-force_delete": nil}
		return true, passing(gone(r.post(ctx)))
	}
	return false, p.letGo(ctx, v)
}

// letGo ends attachments to servers that are not there any more: nobody else would. To a server that is, the volume is in use, which is a Conflict, but for one of
// ours that Nova has deleted and keeps for a while.
func (p *Provider) letGo(ctx context.Context, v *volume) error {
	if len(v.Attachments) == 0 && (v.Status == "reserved" || v.Status == "attaching") {
		return p.letReserved(ctx, v)
	}
	for _, a := range v.Attachments {
		r := p.nova(a.ServerID)
		var body struct{ Server server }
		r.into = &body
		err := r.get(ctx)
		switch {
		case err == nil && p.softDeleted(&body.Server):
			return p.forceDelete(ctx, &body.Server)
		case err == nil && body.Server.Task != taskDeleting && v.Status == "in-use":
			return trove.Errorf(trove.KindConflict, "The volume %s is in use by the server %s.", v.ID, a.ServerID)
		case err == nil:
			continue
		case !trove.IsNotFound(err):
			return err
		}
		end := p.cinder("attachments", a.AttachmentID)
		end.microversion = microAttached
		if err := end.remove(ctx); err != nil {
			return passing(err)
		}
	}
	return nil
}

// letReserved ends reservations for servers that are not there: Nova goes on where it cannot take back the one of a server that it removes. Cinder shows only what is
// attached with the volume, so that reservations are asked for by themselves.
func (p *Provider) letReserved(ctx context.Context, v *volume) error {
	r := p.cinder("attachments")
	r.microversion, r.query = microAttached, url.Values{"volume_id": {v.ID}}
	all, err := list[reservation](ctx, r, "attachments")
	if err != nil {
		return err
	}
	for _, a := range all {
		if a.Volume != v.ID || !trove.ValidID(a.Server) {
			continue
		}
		if err := p.nova(a.Server).get(ctx); !trove.IsNotFound(err) {
			if err != nil {
				return err
			}
			continue
		}
		p.cfg.Log.WarnContext(ctx, "reservation of a volume for a server that is gone was ended", "volume", v.ID, "server", a.Server)
		end := p.cinder("attachments", a.ID)
		end.microversion = microAttached
		if err := end.remove(ctx); err != nil {
			return passing(err)
		}
	}
	return nil
}
