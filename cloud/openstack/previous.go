package openstack

import (
	"context"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
)

// previousName is the name of the volume with the image that an instance had before.
func previousName(instance string) string { return nameOf(instance) + "-previous" }

// keyImage is the image that such a volume was made from, in its metadata.
const keyImage = "trove_image"

// previousVolume makes the volume with the image be there and returns its id when it can be attached; without an image there is none.
func (p *Provider) previousVolume(ctx context.Context, s cloud.MachineSpec) (id string, ready bool, err error) {
	image := s.PreviousImageID
	if image == "" {
		return "", true, nil
	}
	v, err := p.named(ctx, previousName(s.Instance))
	if err == nil && v.Metadata[keyImage] != image {
		return "", false, p.dropOther(ctx, &v)
	}
	if trove.IsNotFound(err) {
		return "", false, p.makePrevious(ctx, s)
	}
	if err != nil {
		return "", false, err
	}
	if v.failed() {
		return "", false, trove.Permanent(trove.Errorf(trove.KindInternal, "The volume with the previous image failed: %s", p.whyVolume(ctx, &v)))
	}
	return v.ID, v.Status == "available" || v.Status == "in-use", nil
}

// dropOther removes a volume with another image, after it was taken from its server.
func (p *Provider) dropOther(ctx context.Context, v *volume) error {
	if v.Status == "in-use" && len(v.Attachments) > 0 {
		return p.detach(ctx, v.Attachments[0].ServerID, v.ID)
	}
	_, err := p.removeOne(ctx, v)
	return err
}

func (p *Provider) makePrevious(ctx context.Context, s cloud.MachineSpec) error {
	image := s.PreviousImageID
	i, err := p.image(ctx, image)
	if err != nil {
		return asBad(err)
	}
	metadata := p.metadata(s.Instance, s.Project)
	metadata[keyImage] = image
	o := object{"name": previousName(s.Instance), "size": i.diskGiB(), "imageRef": image, "metadata": metadata}
	if p.cfg.VolumeType != "" {
		o["volume_type"] = p.cfg.VolumeType
	}
	r := p.cinder("volumes")
	r.body = object{"volume": p.placed(o, s.Zone)}
	return asBad(r.post(ctx))
}

// fitPrevious makes a server that is stopped see the previous image or, with "", see none, and its metadata say so. It is ready when Nova and Cinder are.
func (p *Provider) fitPrevious(ctx context.Context, sv *server, s cloud.MachineSpec) (ready bool, err error) {
	image := s.PreviousImageID
	if image == "" {
		return p.dropPrevious(ctx, sv)
	}
	id, ready, err := p.previousVolume(ctx, s)
	if err != nil || !ready {
		return false, err
	}
	if !sv.attached(id) {
		return false, p.attach(ctx, sv.ID, id)
	}
	if sv.Metadata[keyPrevious] == image {
		return true, nil
	}
	return true, p.setMetadata(ctx, sv.ID, object{keyPrevious: image, keyPreviousDisk: id})
}

// dropPrevious takes the previous image away from a server, and removes its volume when Nova has let go of it. It is done when that is asked for.
func (p *Provider) dropPrevious(ctx context.Context, sv *server) (done bool, err error) {
	id := sv.Metadata[keyPreviousDisk]
	if id == "" {
		return true, nil
	}
	if sv.attached(id) {
		return false, p.detach(ctx, sv.ID, id)
	}
	if err := p.cinder("volumes", id).remove(ctx); err != nil {
		return false, passing(err)
	}
	if err := p.dropMetadata(ctx, sv.ID, keyPrevious); err != nil {
		return false, err
	}
	return true, p.dropMetadata(ctx, sv.ID, keyPreviousDisk)
}

// DropPrevious is cloud.Rebuilder.DropPrevious.
func (p *Provider) DropPrevious(ctx context.Context, instance string) (done bool, err error) {
	if err := checkID(instance); err != nil {
		return false, err
	}
	defer p.lock(instance)()
	sv, err := p.server(ctx, instance)
	if err != nil {
		return true, gone(err)
	}
	return p.dropPrevious(ctx, &sv)
}
