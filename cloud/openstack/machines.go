package openstack

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/openstack/osclient"
	"github.com/trove-dbaas/trove/internal/clock"
)

// EnsureMachine is cloud.Machines.EnsureMachine.
func (p *Provider) EnsureMachine(ctx context.Context, s cloud.MachineSpec) (cloud.Machine, error) {
	if err := checkMachine(s); err != nil {
		return cloud.Machine{}, err
	}
	defer p.lock(s.Instance)()
	sv, err := p.oneServer(ctx, s.Instance)
	if trove.IsNotFound(err) {
		return p.makeServer(ctx, s)
	}
	if err != nil {
		return cloud.Machine{}, err
	}
	m, err := p.machine(ctx, s.Instance, &sv)
	switch {
	case err == nil && moving(&sv): // its migration was given up after this
		return m, underWay(p.act(ctx, sv.ID, "confirmResize"))
	case err == nil && m.State == cloud.MachineRunning && sv.Metadata[keyMigrate] != "":
		return m, p.dropMetadata(ctx, sv.ID, keyMigrate)
	case err != nil || m.State != cloud.MachineStopped:
		return m, err
	}
	return p.start(ctx, &sv, s, m)
}

func checkMachine(s cloud.MachineSpec) error {
	if err := checkID(s.Instance); err != nil {
		return err
	}
	if err := s.Group.Check(); err != nil {
		return err //nolint:wrapcheck // a sentence of the port
	}
	if err := checkFlavor(s.Flavor); err != nil {
		return err
	}
	for _, id := range []string{s.ImageID, s.PreviousImageID} {
		if !trove.ValidID(id) && (id != "" || s.ImageID == "") {
			return bad("Image %s cannot be found.", id)
		}
	}
	return nil
}

// makeServer asks Nova for a server, or makes first what it needs.
func (p *Provider) makeServer(ctx context.Context, s cloud.MachineSpec) (cloud.Machine, error) {
	pending := cloud.Machine{Instance: s.Instance, State: cloud.MachinePending, FlavorID: s.Flavor.ID, ImageID: s.ImageID}
	w, err := p.wiring(ctx, s)
	if err != nil {
		// Whoever makes one at this moment has the volume reserved: then there is one to be seen.
		if sv, none := p.oneServer(ctx, s.Instance); none == nil {
			return p.machine(ctx, s.Instance, &sv)
		}
		return cloud.Machine{}, err
	}
	if err := p.reclaim(ctx, w.attached); err != nil {
		return cloud.Machine{}, err
	}
	previous, ready, err := p.previousVolume(ctx, s)
	if err != nil || !ready {
		return pending, err
	}
	data, err := p.userData(w, s.BootData, previous)
	if err != nil {
		return cloud.Machine{}, err
	}
	group, err := p.joinGroup(ctx, s.Group)
	if err != nil {
		return cloud.Machine{}, err
	}
	r := p.nova()
	r.microversion, r.body = microCreate, p.newServer(s, w, previous, group, data)
	err = r.post(ctx)
	switch {
	case taken(err):
		return p.othersServer(ctx, s.Instance, err)
	case groupGone(err, group):
		return cloud.Machine{}, trove.Wrap(trove.KindUnavailable, err, "%s", trove.MessageOf(err))
	case err != nil:
		return cloud.Machine{}, p.noImages(ctx, s.ImageID, asBad(passing(err)))
	}
	sv, err := p.oneServer(ctx, s.Instance)
	if err != nil {
		return pending, gone(err)
	}
	return p.machine(ctx, s.Instance, &sv)
}

// noImages names Glance where it is away: Nova reads the image when it is asked for a server, and says only that it could not do what it was asked for.
func (p *Provider) noImages(ctx context.Context, image string, err error) error {
	if a, ok := osclient.AnswerOf(err); !ok || a.Status < http.StatusInternalServerError {
		return err
	}
	_, away := p.image(ctx, image)
	if trove.KindOf(away) != trove.KindUnavailable {
		return err
	}
	return trove.Wrap(trove.KindUnavailable, errors.Join(err, away), "%s %s", trove.MessageOf(away), trove.MessageOf(err))
}

// taken reports whether Nova refuses a server because another one has its volume or its ports. The volume was free a moment ago: this is what keeps two who make the
// server of an instance at the same moment from making two.
func taken(err error) bool {
	a, ok := osclient.AnswerOf(err)
	return ok && (a.Status == http.StatusBadRequest && strings.Contains(a.Message, "Invalid volume") && !strings.Contains(a.Message, "availability_zone") ||
		a.Status == http.StatusConflict && strings.Contains(a.Message, "is still in use"))
}

// othersServer returns the server that somebody else makes: Nova shows it a moment after it has taken the volume.
func (p *Provider) othersServer(ctx context.Context, instance string, cause error) (m cloud.Machine, err error) {
	for range othersLooks {
		sv, err := p.oneServer(ctx, instance)
		if err == nil {
			return p.machine(ctx, instance, &sv)
		}
		if !trove.IsNotFound(err) {
			return m, err
		}
		if err := clock.Sleep(ctx, firstLook); err != nil {
			return m, err
		}
	}
	return m, trove.Wrap(trove.KindUnavailable, cause, "%s", trove.MessageOf(cause))
}

// othersLooks is how often it is looked for.
const othersLooks = 20

// newServer is what Nova is asked for: the image on a disk of the host, the volumes beside it, the ports that exist, and the data on a config drive; in a server group.
func (p *Provider) newServer(s cloud.MachineSpec, w wiring, previous, group string, data []byte) object {
	disks := []object{{
		"boot_index": 0, "source_type": "image", "destination_type": "local", "uuid": s.ImageID, "delete_on_termination": true,
	}}
	for _, v := range []string{w.volume, previous} {
		if v != "" {
			disks = append(disks, object{"boot_index": -1, "source_type": "volume", "destination_type": "volume", "uuid": v, "delete_on_termination": false})
		}
	}
	ports := make([]object, 0, len(w.ports))
	for _, port := range w.ports {
		ports = append(ports, object{"port": port.ID})
	}
	metadata := p.metadata(s.Instance, s.Project)
	if previous != "" {
		metadata[keyPrevious], metadata[keyPreviousDisk] = s.PreviousImageID, previous
	}
	o := object{
		"name": nameOf(s.Instance), "imageRef": s.ImageID, "flavorRef": s.Flavor.ID, "config_drive": true, "metadata": metadata,
		"tags": p.tags(s.Instance, s.Project), "block_device_mapping_v2": disks, "networks": ports, "user_data": base64.StdEncoding.EncodeToString(data),
	}
	if zone := p.zone(s.Zone); zone != "" {
		o["availability_zone"] = zone
	}
	if group == "" {
		return object{"server": o}
	}
	metadata[keyGroup], metadata[keyLocality] = group, string(s.Group.Policy)
	return object{"server": o, "os:scheduler_hints": object{"group": group}}
}

// zone is where a server is asked for, "" where Nova chooses.
func (p *Provider) zone(wanted string) string { return cmp.Or(strings.TrimSpace(wanted), p.cfg.Zone) }

// placed puts a volume that is to be made for a server in a zone into Cinder's zone of that name, where that is wanted. In Nova's word for a zone there may be a host, too.
func (p *Provider) placed(o object, wanted string) object {
	if zone, _, _ := strings.Cut(p.zone(wanted), ":"); zone != "" && p.cfg.VolumeInZone {
		o["availability_zone"] = zone
	}
	return o
}

// wakes are the actions that bring a server back from states that are as good as stopped.
var wakes = map[string]string{
	"SHUTOFF": "os-start", "PAUSED": "unpause", "SUSPENDED": "resume", "SHELVED": "unshelve", "SHELVED_OFFLOADED": "unshelve", "RESCUE": "unrescue",
}

// start starts a server that is stopped, with the volumes that it shall see and all its ports.
func (p *Provider) start(ctx context.Context, sv *server, s cloud.MachineSpec, m cloud.Machine) (cloud.Machine, error) {
	if sv.Status == "SHUTOFF" {
		ready, err := p.fitVolumes(ctx, sv, s)
		if err != nil || !ready {
			m.State, m.Reason = cloud.MachinePending, ""
			return m, err
		}
	}
	if attached, err := p.attachPorts(ctx, sv, s.Instance); err != nil || attached {
		m.State, m.Reason = cloud.MachinePending, ""
		return m, err
	}
	if err := p.wake(ctx, sv); err != nil {
		return cloud.Machine{}, err
	}
	m.State, m.Reason = cloud.MachinePending, ""
	return m, nil
}

// wake has a server run that is stopped.
func (p *Provider) wake(ctx context.Context, sv *server) error {
	action := wakes[sv.Status]
	if sv.Status == "ACTIVE" { // it has switched itself off, and Nova has not noticed
		action = "reboot"
	}
	return p.act(ctx, sv.ID, action)
}

// act gives a server an order. One that does not fit its state at the moment is temporarily refused.
func (p *Provider) act(ctx context.Context, server, action string) error {
	var args any
	if action == "reboot" {
		args = object{"type": "HARD"}
	}
	r := p.nova(server, "action")
	r.body = object{action: args}
	return passing(r.post(ctx))
}

// fitVolumes attaches the data volume where it is not, and the previous image's volume or takes that away.
func (p *Provider) fitVolumes(ctx context.Context, sv *server, s cloud.MachineSpec) (ready bool, err error) {
	data, err := p.volume(ctx, s.Instance)
	if err == nil && !sv.attached(data.ID) {
		return false, p.attach(ctx, sv.ID, data.ID)
	}
	if gone(err) != nil {
		return false, err
	}
	return p.fitPrevious(ctx, sv, s)
}

func (p *Provider) attach(ctx context.Context, server, volume string) error {
	r := p.nova(server, "os-volume_attachments")
	r.body = object{"volumeAttachment": object{"volumeId": volume}}
	return passing(r.post(ctx))
}

// detach goes through Nova alone: Cinder would leave the disk in the hands of the guest (CVE-2023-2088).
func (p *Provider) detach(ctx context.Context, server, volume string) error {
	return passing(p.nova(server, "os-volume_attachments", volume).remove(ctx))
}

// StopMachine is cloud.Machines.StopMachine: the guest is asked to switch off, and switched off when it does not.
func (p *Provider) StopMachine(ctx context.Context, instance string) error {
	if err := checkID(instance); err != nil {
		return err
	}
	defer p.lock(instance)()
	sv, err := p.server(ctx, instance)
	if err != nil {
		return err
	}
	if _, asleep := wakes[sv.Status]; asleep && sv.Task == "" || sv.Task == "powering-off" {
		return nil
	}
	return p.act(ctx, sv.ID, "os-stop")
}

// RebootMachine is cloud.Machines.RebootMachine.
func (p *Provider) RebootMachine(ctx context.Context, instance string) error {
	if err := checkID(instance); err != nil {
		return err
	}
	defer p.lock(instance)()
	sv, err := p.server(ctx, instance)
	if err != nil {
		return err
	}
	// Its volume stays until the server is stopped: it could not be taken from a guest that does not answer, and a reboot is for such a guest.
	if sv.Metadata[keyPrevious] != "" {
		if err := p.dropMetadata(ctx, sv.ID, keyPrevious); err != nil {
			return err
		}
	}
	if _, err := p.attachPorts(ctx, &sv, instance); err != nil { // it is for a machine that is in trouble, and may be one for that
		p.cfg.Log.WarnContext(ctx, "ports that the server lacks were not attached before its reboot", "instance", instance, "server", sv.ID, "err", err)
	}
	return p.act(ctx, sv.ID, "reboot")
}

// RemoveMachine is cloud.Machines.RemoveMachine. It returns when the server is gone, because what it used can only be removed then.
func (p *Provider) RemoveMachine(ctx context.Context, instance string) error {
	if err := checkID(instance); err != nil {
		return err
	}
	defer p.lock(instance)()
	asked, groups := map[string]bool{}, map[string]bool{}
	err := p.until(ctx, "Nova has not removed the server of the instance yet.", func(ctx context.Context) (bool, error) {
		all, err := p.servers(ctx, instance)
		if err != nil {
			return false, err
		}
		for _, s := range all {
			// While there is the server somebody knows of its group, so that goes before it.
			if g := s.Metadata[keyGroup]; g != "" && !groups[g] {
				if err := p.dropServerGroup(ctx, g, all); err != nil {
					return false, err
				}
				groups[g] = true
			}
			if asked[s.ID] || s.Task == taskDeleting && s.Status != "ERROR" {
				continue
			}
			if err := p.nova(s.ID).remove(ctx); err != nil {
				return false, passing(err)
			}
			asked[s.ID] = true
		}
		return len(all) == 0, nil
	})
	if err != nil {
		return err
	}
	for g := range groups { // the last two machines may have been removed at once
		if err := p.dropServerGroup(ctx, g, nil); err != nil {
			return err
		}
	}
	return p.removeVolumes(ctx, previousName(instance))
}
