package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/local/cgroup"
	"github.com/trove-dbaas/trove/cloud/local/sandbox"
	"github.com/trove-dbaas/trove/cloud/local/volume"
)

// AgentMiB is what an instance's memory limit has beyond its flavor's, for the guest agent: engines are sized for the whole flavor.
const AgentMiB = 32

// maxPIDs is enough for an engine with a thread per connection.
const maxPIDs = 4096

// stopGrace is how long a sandbox may take to end when asked. The engine was stopped before, by the guest's agent.
const stopGrace = 10 * time.Second

// EnsureMachine is cloud.Machines.EnsureMachine. It returns when the guest's first process runs. After a restart of the host it brings back
// everything that the machine needs.
func (p *Provider) EnsureMachine(ctx context.Context, s cloud.MachineSpec) (cloud.Machine, error) {
	if err := checkID(s.Instance); err != nil {
		return cloud.Machine{}, err
	}
	unlock, err := p.paths.lock(ctx, s.Instance)
	if err != nil {
		return cloud.Machine{}, err
	}
	defer unlock(false)
	rec, err := readRecord[machineRecord](p.paths.machineRecord(s.Instance))
	fresh := errors.Is(err, os.ErrNotExist)
	if fresh {
		if err := p.checkMachine(ctx, s); err != nil {
			return cloud.Machine{}, err
		}
	}
	net, netErr := p.findNet(ctx, s.Instance)
	if netErr != nil {
		return cloud.Machine{}, netErr
	}
	switch {
	case fresh:
		rec = machineRecord{
			Project: s.Project, Name: s.Name, ImageID: s.ImageID, Flavor: s.Flavor, Zone: s.Zone, BootData: s.BootData, PreviousImageID: s.PreviousImageID,
		}
		err = writeRecord(p.paths.machineRecord(s.Instance), rec)
	case err == nil:
		err = p.wakeRecord(&rec, s)
	}
	if err != nil {
		return cloud.Machine{}, fmt.Errorf("machine of instance %s: %w", s.Instance, err)
	}
	if err := p.startMachine(ctx, s.Instance, rec, net); err != nil {
		return cloud.Machine{}, err
	}
	return p.findMachine(s.Instance)
}

// wakeRecord notes that a machine that is there shall run, and which previous image it sees if this call starts it.
func (p *Provider) wakeRecord(rec *machineRecord, s cloud.MachineSpec) error {
	want := *rec
	want.Stopped = false
	if _, err := p.runtime.Find(s.Instance); err != nil {
		want.PreviousImageID = s.PreviousImageID
	}
	if want.Stopped == rec.Stopped && want.PreviousImageID == rec.PreviousImageID {
		return nil
	}
	*rec = want
	return writeRecord(p.paths.machineRecord(s.Instance), want)
}

// checkMachine refuses what could never start.
func (p *Provider) checkMachine(ctx context.Context, s cloud.MachineSpec) error {
	if err := checkFlavor(s.Flavor); err != nil {
		return err
	}
	if err := p.checkGroup(s.Group); err != nil {
		return err
	}
	for _, image := range []string{s.ImageID, cmp.Or(s.PreviousImageID, s.ImageID)} {
		if err := p.ImageExists(ctx, image); trove.IsNotFound(err) {
			return trove.Permanent(trove.Wrap(trove.KindBadRequest, err, "Image %s cannot be found.", image))
		} else if err != nil {
			return err
		}
	}
	if v, err := p.findVolume(s.Instance); trove.IsNotFound(err) || (err == nil && !v.Ready) {
		return bad("Instance %s has no volume that its machine could use.", s.Instance)
	} else if err != nil {
		return err
	}
	return nil
}

// checkGroup refuses a machine that has to be on another host than those that are here. Together they are anyhow.
func (p *Provider) checkGroup(g cloud.Group) error {
	if err := g.Check(); err != nil || g.Policy != cloud.AntiAffinity {
		return err //nolint:wrapcheck // a sentence of the port
	}
	for _, peer := range g.Peers {
		_, err := p.machineRecord(peer)
		if err == nil {
			return trove.Permanent(trove.Errorf(trove.KindNotImplemented,
				"The local cloud has one host, and the machine of %s is on it: there is no other for one more with the locality %s.", peer, g.Policy))
		}
		if !trove.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// findNet returns the instance's attachment, without which no machine starts.
func (p *Provider) findNet(ctx context.Context, id string) (NetInstance, error) {
	net, err := p.config.Net.FindInstance(ctx, id)
	if trove.IsNotFound(err) {
		return NetInstance{}, bad("Instance %s has no network that its machine could be attached to.", id)
	}
	return net, err
}

func checkFlavor(f trove.Flavor) error {
	if f.ID == "" || f.RAM <= 0 || f.VCPUs <= 0 {
		return bad("Flavor %q has no memory or no cores.", f.ID)
	}
	return nil
}

// limits returns what a machine of the flavor may use; device is its volume's, as major:minor, "" for none.
func limits(f trove.Flavor, device string) cgroup.Limits {
	l := cgroup.Limits{Memory: int64(f.RAM+AgentMiB) << 20, CPU: int64(f.VCPUs) * cgroup.Period, PIDs: maxPIDs}
	if device != "" {
		l.IO = cgroup.IO{Device: device, IOPS: int64(f.IOPS), Bandwidth: int64(f.Bandwidth) << 20}
	}
	return l
}

// device returns the block device under an instance's volume as major:minor, "" if the volume is not attached.
func (p *Provider) device(id string) string {
	a, err := volume.Find(p.paths.in(id, "data"))
	if err != nil {
		return ""
	}
	return a.Number()
}

// FindMachine is cloud.Machines.FindMachine.
func (p *Provider) FindMachine(_ context.Context, instance string) (cloud.Machine, error) {
	return p.findMachine(instance)
}

func (p *Provider) findMachine(id string) (cloud.Machine, error) {
	rec, err := p.machineRecord(id)
	if err != nil {
		return cloud.Machine{}, err
	}
	m := cloud.Machine{ID: id, Instance: id, FlavorID: rec.Flavor.ID, ImageID: rec.ImageID}
	process, err := p.runtime.Find(id)
	switch {
	case err == nil:
		m.State, m.BootID, m.PreviousImageID = cloud.MachineRunning, process.BootID, rec.PreviousImageID
	case !errors.Is(err, sandbox.ErrNotRunning):
		return cloud.Machine{}, err
	case rec.Stopped:
		m.State, m.Reason = cloud.MachineStopped, "The machine was stopped on request."
	default:
		m.State, m.Reason = cloud.MachineStopped, "The machine's first process is not running; it ended by itself, or the host was restarted."
	}
	return m, nil
}

// machineRecord reads the machine's record, a NotFound error if there is none.
func (p *Provider) machineRecord(id string) (machineRecord, error) {
	if err := checkID(id); err != nil {
		return machineRecord{}, err
	}
	rec, err := readRecord[machineRecord](p.paths.machineRecord(id))
	if errors.Is(err, os.ErrNotExist) {
		return machineRecord{}, trove.Errorf(trove.KindNotFound, "Instance %s has no machine.", id)
	}
	if err != nil {
		return machineRecord{}, fmt.Errorf("find the machine of instance %s: %w", id, err)
	}
	return rec, nil
}

// StopMachine is cloud.Machines.StopMachine; without a machine it is NotFound. Its mounts stay.
func (p *Provider) StopMachine(ctx context.Context, instance string) error {
	return p.withMachine(ctx, instance, func(rec machineRecord) error {
		if !rec.Stopped {
			rec.Stopped = true
			if err := writeRecord(p.paths.machineRecord(instance), rec); err != nil {
				return err
			}
		}
		return p.haltMachine(ctx, instance)
	})
}

// RebootMachine is cloud.Machines.RebootMachine; without a machine it is NotFound.
func (p *Provider) RebootMachine(ctx context.Context, instance string) error {
	return p.withMachine(ctx, instance, func(rec machineRecord) error {
		if err := p.haltMachine(ctx, instance); err != nil {
			return err
		}
		if rec.Stopped || rec.PreviousImageID != "" {
			rec.Stopped, rec.PreviousImageID = false, ""
			if err := writeRecord(p.paths.machineRecord(instance), rec); err != nil {
				return err
			}
		}
		net, err := p.findNet(ctx, instance)
		if err != nil {
			return err
		}
		return p.startMachine(ctx, instance, rec, net)
	})
}

// ResizeMachine is cloud.Machines.ResizeMachine; without a machine it is NotFound. The limits of a running machine change at once. Less memory than
// it uses at the moment is Unavailable: it can be had when the engine was stopped.
func (p *Provider) ResizeMachine(ctx context.Context, instance string, f trove.Flavor) (cloud.Machine, error) {
	if err := checkFlavor(f); err != nil {
		return cloud.Machine{}, err
	}
	err := p.withMachine(ctx, instance, func(rec machineRecord) error {
		if _, err := p.runtime.Find(instance); err == nil {
			err := p.runtime.Groups.Set(p.runtime.Group(instance), limits(f, p.device(instance)))
			if errors.Is(err, syscall.EBUSY) {
				return trove.Wrap(trove.KindUnavailable, err,
					"Instance %s uses more memory than the %d MiB of flavor %s at the moment.", instance, f.RAM, f.ID)
			}
			if err != nil {
				return err
			}
		} else if !errors.Is(err, sandbox.ErrNotRunning) {
			return err
		}
		rec.Flavor = f
		return writeRecord(p.paths.machineRecord(instance), rec)
	})
	if err != nil {
		return cloud.Machine{}, err
	}
	return p.findMachine(instance)
}

// RemoveMachine is cloud.Machines.RemoveMachine. The record goes last, so that a half-removed machine is still found.
func (p *Provider) RemoveMachine(ctx context.Context, instance string) error {
	return p.removing(ctx, instance, func() error { return p.dropMachine(ctx, instance) })
}

func (p *Provider) dropMachine(ctx context.Context, id string) error {
	if err := p.haltMachine(ctx, id); err != nil {
		return err
	}
	if err := p.unmountRoot(id); err != nil {
		return fmt.Errorf("remove the machine of instance %s: %w", id, err)
	}
	for _, path := range []string{p.paths.oldConsole(id), p.paths.machineRecord(id)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove the machine of instance %s: %w", id, err)
		}
	}
	return nil
}

// haltMachine ends the sandbox and clears it away, with what it wrote last kept.
func (p *Provider) haltMachine(ctx context.Context, id string) error {
	if err := p.runtime.Stop(ctx, id, stopGrace); err != nil {
		return err
	}
	p.keepConsole(ctx, id)
	return p.runtime.Remove(ctx, id)
}

func (p *Provider) withMachine(ctx context.Context, id string, do func(machineRecord) error) error {
	if _, err := p.machineRecord(id); err != nil {
		return err
	}
	unlock, err := p.paths.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock(false)
	rec, err := p.machineRecord(id)
	if err != nil {
		return err
	}
	return do(rec)
}

// Machines is cloud.Machines.Machines, sorted by instance.
func (p *Provider) Machines(context.Context) ([]cloud.Machine, error) {
	ids, err := p.paths.instances()
	if err != nil {
		return nil, err
	}
	var all []cloud.Machine
	for _, id := range ids {
		m, err := p.findMachine(id)
		if trove.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}
