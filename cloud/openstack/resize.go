package openstack

import (
	"cmp"
	"context"
	"encoding/base64"
	"net/http"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
)

// ResizeMachine is cloud.Machines.ResizeMachine: Nova moves the server to a place of the new size, and it is confirmed when it runs there. Called with the flavor
// that the server had while that waits to be confirmed, it goes back.
func (p *Provider) ResizeMachine(ctx context.Context, instance string, f trove.Flavor) (cloud.Machine, error) {
	if err := checkID(instance); err != nil {
		return cloud.Machine{}, err
	}
	if err := checkFlavor(f); err != nil {
		return cloud.Machine{}, err
	}
	defer p.lock(instance)()
	sv, err := p.oneServer(ctx, instance)
	if err != nil {
		return cloud.Machine{}, err
	}
	m := seen(instance, &sv)
	switch {
	case sv.Status == "VERIFY_RESIZE" && sv.Task == "" && sv.Flavor.ID == f.ID:
		return m, underWay(p.act(ctx, sv.ID, "confirmResize"))
	case sv.Status == "VERIFY_RESIZE" && sv.Task == "":
		return m, underWay(p.act(ctx, sv.ID, "revertResize"))
	case m.State == cloud.MachinePending || m.State == cloud.MachineFailed || sv.Flavor.ID == f.ID:
		return p.machine(ctx, instance, &sv)
	}
	if err := p.resizeFailed(ctx, &sv, f); err != nil {
		return cloud.Machine{}, err
	}
	if err := p.setMetadata(ctx, sv.ID, object{keyResize: f.ID}); err != nil {
		return cloud.Machine{}, err
	}
	r := p.nova(sv.ID, "action")
	r.body = object{"resize": object{"flavorRef": f.ID}}
	if err := r.post(ctx); err != nil {
		return cloud.Machine{}, asBad(passing(err))
	}
	m.State, m.Reason = cloud.MachinePending, ""
	return m, nil
}

// underWay takes no offence at an order that was given before: Nova shows the old state until it is done, and says that there is nothing to confirm.
func underWay(err error) error {
	if osclient.Is(err, http.StatusConflict, http.StatusBadRequest) {
		return nil
	}
	return err
}

// resizeFailed returns an error if the resize that was asked for came to nothing: Nova says so in its list of actions alone, and the server runs as before. It is
// said once, so that another try is made when it is asked for again.
func (p *Provider) resizeFailed(ctx context.Context, sv *server, f trove.Flavor) error {
	if sv.Metadata[keyResize] != f.ID {
		return nil
	}
	all, err := p.actions(ctx, sv.ID)
	if err != nil || len(all) == 0 || all[0].Action != "resize" || all[0].Message == nil {
		return err
	}
	if err := p.dropMetadata(ctx, sv.ID, keyResize); err != nil {
		return err
	}
	why := "no host has room for the flavor " + f.Name + ", or the move failed"
	if by := placedBy(sv); by != "" {
		why += "; " + by
	}
	return trove.Permanent(trove.Errorf(trove.KindInternal, "Nova could not resize the server: %s (request %s). It is as it was before.", why, all[0].RequestID))
}

// setMetadata changes entries of a server's metadata.
func (p *Provider) setMetadata(ctx context.Context, server string, entries object) error {
	r := p.nova(server, "metadata")
	r.body = object{"metadata": entries}
	return passing(r.post(ctx))
}

func (p *Provider) dropMetadata(ctx context.Context, server, key string) error {
	return passing(p.nova(server, "metadata", key).remove(ctx))
}

// RebuildMachine is cloud.Rebuilder.RebuildMachine.
func (p *Provider) RebuildMachine(ctx context.Context, s cloud.MachineSpec) (cloud.Machine, error) {
	if err := checkMachine(s); err != nil {
		return cloud.Machine{}, err
	}
	defer p.lock(s.Instance)()
	sv, err := p.oneServer(ctx, s.Instance)
	if err != nil {
		return cloud.Machine{}, err
	}
	m, err := p.machine(ctx, s.Instance, &sv)
	switch {
	case err != nil || m.State == cloud.MachinePending || m.State == cloud.MachineFailed:
		return m, err
	case sv.Image.ID == s.ImageID && m.State == cloud.MachineStopped:
		return p.start(ctx, &sv, s, m)
	case sv.Image.ID == s.ImageID:
		return m, nil
	}
	w, err := p.wiring(ctx, s)
	if err != nil {
		return cloud.Machine{}, err
	}
	m.State, m.Reason = cloud.MachinePending, ""
	previous, ready, err := p.previousVolume(ctx, s)
	if err != nil || !ready {
		return m, err
	}
	if previous != "" && !sv.attached(previous) {
		return m, p.attach(ctx, sv.ID, previous)
	}
	if attached, err := p.attachPorts(ctx, &sv, s.Instance); err != nil || attached {
		return m, err
	}
	data, err := p.userData(w, s.BootData, previous)
	if err != nil {
		return cloud.Machine{}, err
	}
	metadata := p.metadata(s.Instance, s.Project)
	keepGroup(metadata, &sv)
	if disk := cmp.Or(previous, sv.Metadata[keyPreviousDisk]); disk != "" {
		metadata[keyPreviousDisk] = disk
	}
	if previous != "" {
		metadata[keyPrevious] = s.PreviousImageID
	}
	r := p.nova(sv.ID, "action")
	r.microversion = microRebuild
	r.body = object{"rebuild": object{"imageRef": s.ImageID, "user_data": base64.StdEncoding.EncodeToString(data), "metadata": metadata}}
	return m, p.noImages(ctx, s.ImageID, asBad(passing(r.post(ctx))))
}
