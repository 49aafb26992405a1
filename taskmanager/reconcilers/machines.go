package reconcilers

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/taskmanager/specs"
)

// Machines brings back machines that are gone or stopped although their instance should run, as after a restart of the host: ports first,
// then the volume, then the machine. It opens no operation; the service status shows what happens.
type Machines struct {
	cfg Config

	mu      sync.Mutex
	swept   bool                          // the last look listed what the cloud has
	sweep   time.Time                     // when the next one does
	states  map[string]cloud.MachineState // as of the last look
	volumes map[string]struct{}           // likewise, of which instances there are volumes
	revived map[string]revival            // machines that were started lately
}

// revival is how often a machine was started lately, and when last.
type revival struct {
	times int
	at    time.Time
}

// A machine that ends again soon is started again after longer and longer pauses, until it has run for a while.
const (
	firstRevival = 15 * time.Second
	lastRevival  = 5 * time.Minute
	revivalLife  = 10 * time.Minute
)

func newMachines(c Config) *Machines { return &Machines{cfg: c, revived: map[string]revival{}} }

// perThing is how much longer a list is waited for with each thing that the last one had: what looking costs in a minute does not grow with what there is.
const perThing = time.Second

// look lists the cloud's machines and volumes, so that concerns needs no call for each instance. Where lists are dear only some looks do, and concerns is about those
// instances in between of which something else says that they are not well.
func (m *Machines) look(ctx context.Context) (swept bool, err error) {
	now := m.cfg.Clock.Now()
	m.mu.Lock()
	maps.DeleteFunc(m.revived, func(_ string, r revival) bool { return now.Sub(r.at) > revivalLife })
	m.swept = !now.Before(m.sweep)
	swept = m.swept
	m.mu.Unlock()
	if !swept {
		return false, nil
	}
	list, err := m.cfg.Cloud.Machines(ctx)
	if err != nil {
		return false, fmt.Errorf("list machines: %w", err)
	}
	found, err := m.cfg.Cloud.Volumes(ctx)
	if err != nil {
		return false, fmt.Errorf("list volumes: %w", err)
	}
	volumes := make(map[string]struct{}, len(found))
	for n := range found {
		volumes[found[n].Instance] = struct{}{}
	}
	states := make(map[string]cloud.MachineState, len(list))
	for _, mc := range list {
		states[mc.Instance] = mc.State
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.states, m.volumes = states, volumes
	if m.cfg.Sweep > 0 {
		m.sweep = now.Add(max(m.cfg.Sweep, time.Duration(len(states)+len(volumes))*perThing))
	}
	return true, nil
}

// found returns the instances of which the last list had something.
func (m *Machines) found() map[string]struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := maps.Clone(m.volumes)
	for id := range m.states {
		all[id] = struct{}{}
	}
	return all
}

// unwell says without a list whether a machine may not run: its guest is not heard of, or it did not run when it was looked at last.
func (m *Machines) unwell(i *trove.Instance, now time.Time) bool {
	state, known := m.states[i.ID]
	return i.ServerStatus != trove.ServerActive || i.Silent(now) || known && state != cloud.MachineRunning
}

// shouldRun reports whether the instance's machine has to run: it was made once and not stopped on purpose, and no operation works on it.
func shouldRun(i *trove.Instance) bool {
	return (i.Task == trove.TaskNone || i.Task == trove.TaskRestartRequired) && i.ServerStatus != trove.ServerNone && !i.Stopped()
}

// atRest reports whether the instance was stopped and no operation works on it.
func atRest(i *trove.Instance) bool { return i.Task == trove.TaskNone && i.Stopped() }

func (m *Machines) concerns(i *trove.Instance, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.swept {
		return shouldRun(i) && (volumeLost(i) || m.unwell(i, now))
	}
	_, has := m.volumes[i.ID]
	if lost := i.VolumeSize > 0 && !has; lost != volumeLost(i) && (atRest(i) || shouldRun(i)) {
		return true
	}
	if atRest(i) {
		return m.states[i.ID] == cloud.MachineRunning
	}
	return shouldRun(i) && (m.states[i.ID] != cloud.MachineRunning || i.ServerStatus != trove.ServerActive)
}

// ReconcileOne makes the instance's machine run, unless the instance was stopped. It does nothing while an operation is open.
func (m *Machines) ReconcileOne(ctx context.Context, id string) error {
	w, busy, err := idle(ctx, m.cfg.Store, id)
	if err != nil || busy || !shouldRun(&w.Instance) && !atRest(&w.Instance) {
		return err
	}
	if lost, err := m.checkVolume(ctx, w); err != nil || lost {
		return err
	}
	if atRest(&w.Instance) {
		return m.adopt(ctx, id)
	}
	mc, err := m.cfg.Cloud.FindMachine(ctx, id)
	if err != nil && !trove.IsNotFound(err) {
		return fmt.Errorf("find the machine of %s: %w", id, err)
	}
	gone := err != nil
	m.saw(id, mc.State)
	switch {
	case !gone && mc.State == cloud.MachineRunning:
		return m.server(ctx, id, trove.ServerActive, nil)
	case !gone && mc.State == cloud.MachinePending:
		return nil
	case !gone && mc.State == cloud.MachineFailed:
		return m.server(ctx, id, trove.ServerError, &trove.Fault{
			Message: "The machine of the instance failed: " + mc.Reason, Created: m.cfg.Clock.Now(),
		})
	case !m.mayRevive(id):
		return nil
	}
	if only, err := onlyKept(ctx, m.cfg.Store, &w.Instance); err != nil || only {
		return err
	}
	return m.revive(ctx, w, gone)
}

// onlyKept reports whether all whole data of the instance is what an upgrade has kept: its database must not be started.
func onlyKept(ctx context.Context, r store.Reader, i *trove.Instance) (bool, error) {
	k, err := r.KeptData(ctx, i.ID)
	if trove.IsNotFound(err) {
		return false, nil
	}
	return err == nil && k.Only(i), err //nolint:wrapcheck // says whose
}

// saw remembers the state of a machine until the next list.
func (m *Machines) saw(id string, state cloud.MachineState) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.states != nil {
		m.states[id] = state
	}
}

// mayRevive says whether the machine may be started now.
func (m *Machines) mayRevive(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.revived[id]
	return r.times == 0 || m.cfg.Clock.Now().Sub(r.at) >= min(lastRevival, firstRevival<<min(r.times-1, 10))
}

// revivedNow counts a start.
func (m *Machines) revivedNow(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.revived[id] = revival{times: m.revived[id].times + 1, at: m.cfg.Clock.Now()}
}

// volumeGone is the fault of an instance whose data volume is not there.
const volumeGone = "The data volume of the instance is gone."

// volumeLost reports whether the row says so.
func volumeLost(i *trove.Instance) bool { return i.Fault != nil && i.Fault.Message == volumeGone }

// checkVolume marks an instance whose data volume is gone, and takes the mark away when it is there again: a pool may only not have been mounted.
func (m *Machines) checkVolume(ctx context.Context, w specs.Wish) (lost bool, err error) {
	id := w.Instance.ID
	if w.HasVolume() {
		_, err = m.cfg.Cloud.FindVolume(ctx, id)
	}
	lost = trove.IsNotFound(err)
	if err != nil && !lost {
		return false, fmt.Errorf("find the volume of %s: %w", id, err)
	}
	if lost == volumeLost(&w.Instance) {
		return lost, nil
	}
	now := m.cfg.Clock.Now()
	event := trove.InstanceEvent{InstanceID: id, At: now, Kind: trove.EventVolumeBack, Sentence: "The data volume of the instance is there again."}
	if lost {
		event.Kind, event.Sentence = trove.EventVolumeGone, volumeGone+" It is not made anew."
		m.cfg.Log.ErrorContext(ctx, "data volume was gone", "instance", id)
	}
	err = m.change(ctx, id, &event, func(i *trove.Instance) bool {
		i.Fault = nil
		if lost {
			i.Fault = &trove.Fault{Message: volumeGone, Created: now}
			if !i.Stopped() {
				i.ServerStatus = trove.ServerError
			}
		}
		return true
	})
	return lost, err
}

// adopt takes a machine for started that runs although its instance counts as stopped: no operation ends like that, but a store that was restored from
// a copy may be older than the start. Stopping the machine would cut off clients.
func (m *Machines) adopt(ctx context.Context, id string) error {
	mc, err := m.cfg.Cloud.FindMachine(ctx, id)
	switch {
	case trove.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("find the machine of %s: %w", id, err)
	case mc.State != cloud.MachineRunning:
		return nil
	}
	m.cfg.Log.WarnContext(ctx, "machine of a stopped instance was running and counts as started", "instance", id)
	return m.server(ctx, id, trove.ServerActive, nil)
}

// revive makes ports, volume and machine be there again.
func (m *Machines) revive(ctx context.Context, w specs.Wish, gone bool) error {
	id := w.Instance.ID
	m.cfg.Log.WarnContext(ctx, "machine was not running and is started", "instance", id, "gone", gone)
	if err := m.down(ctx, id); err != nil {
		return err
	}
	f, err := specs.FlavorOf(ctx, m.cfg.Cloud, &w.Instance)
	if err != nil {
		return err //nolint:wrapcheck // says which flavor
	}
	if n, err := m.cfg.Cloud.EnsureNetwork(ctx, w.Network(w.Instance.Access)); err != nil {
		return fmt.Errorf("bring back the network of %s: %w", id, err)
	} else if !n.Ready {
		return nil // the next look goes on
	}
	if ready, err := m.volume(ctx, w); err != nil || !ready {
		return err
	}
	boot, err := m.bootData(ctx, w, gone)
	if err != nil {
		return err
	}
	mc, err := m.cfg.Cloud.EnsureMachine(ctx, w.Machine(f, boot))
	if err != nil {
		return fmt.Errorf("start the machine of %s again: %w", id, err)
	}
	m.revivedNow(id)
	if err := say(ctx, m.cfg, id, trove.EventMachineRevived, "The machine was not running and was started."); err != nil {
		return err
	}
	return m.after(ctx, id, mc)
}

// volume makes the volume usable again; that it is there was checked. One that is gone is never made anew: an empty volume in its place would look
// like a healthy instance that has lost its data, or hide a pool that is only not mounted yet.
func (m *Machines) volume(ctx context.Context, w specs.Wish) (ready bool, err error) {
	if !w.HasVolume() {
		return true, nil
	}
	v, err := m.cfg.Cloud.EnsureVolume(ctx, w.Volume(w.Instance.VolumeSize))
	if err != nil {
		return false, fmt.Errorf("bring back the volume of %s: %w", w.Instance.ID, err)
	}
	return v.Ready, nil
}

// after removes what was just made if the instance was deleted meanwhile: there is no lock between this and a delete.
func (m *Machines) after(ctx context.Context, id string, mc cloud.Machine) error {
	_, err := m.cfg.Store.Instance(ctx, id)
	switch {
	case trove.IsNotFound(err):
		return removeAll(ctx, m.cfg.Cloud, id)
	case err != nil:
		return fmt.Errorf("read instance %s: %w", id, err)
	case mc.State == cloud.MachineRunning:
		return m.server(ctx, id, trove.ServerActive, nil)
	}
	return nil
}

// bootData makes what the machine reads at its first boot. A machine that is made anew gets a token of its own: the guest finds its identity on
// the volume if that survived, and enrols again if not.
func (m *Machines) bootData(ctx context.Context, w specs.Wish, gone bool) ([]byte, error) {
	if !gone {
		return w.BootData(m.cfg.Enrolment, "") //nolint:wrapcheck // says what
	}
	token := specs.NewToken()
	err := m.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		return tx.PutEnrolmentToken(ctx, w.Instance.ID, bus.HashToken(token), m.cfg.Clock.Now().Add(m.cfg.TokenLife))
	})
	if err != nil {
		return nil, fmt.Errorf("store an enrolment token for %s: %w", w.Instance.ID, err)
	}
	return w.BootData(m.cfg.Enrolment, token) //nolint:wrapcheck // says what
}

// down shows that the database is not served, until the guest says something else.
func (m *Machines) down(ctx context.Context, id string) error {
	err := m.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		return tx.SetServiceStatus(ctx, id, trove.ServiceShutdown, m.cfg.Clock.Now())
	})
	if err != nil {
		return fmt.Errorf("write the service status of %s: %w", id, err)
	}
	return nil
}

// server writes what the cloud said of the machine, if that is new. A machine that failed is an event too.
func (m *Machines) server(ctx context.Context, id string, s trove.ServerStatus, fault *trove.Fault) error {
	var event *trove.InstanceEvent
	if fault != nil {
		event = &trove.InstanceEvent{InstanceID: id, At: m.cfg.Clock.Now(), Kind: trove.EventMachineFailed, Sentence: fault.Message}
	}
	return m.change(ctx, id, event, func(i *trove.Instance) bool {
		if i.ServerStatus == s {
			return false
		}
		i.ServerStatus = s
		if fault != nil {
			i.Fault = fault
		}
		return true
	})
}

// change alters the row of an instance that no operation works on, with an event beside it, if there is something to alter.
func (m *Machines) change(ctx context.Context, id string, event *trove.InstanceEvent, alter func(*trove.Instance) bool) error {
	err := m.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		i, err := tx.Instance(ctx, id)
		if err != nil || !shouldRun(&i) && !atRest(&i) || !alter(&i) {
			return err
		}
		err = tx.UpdateInstance(ctx, id, m.cfg.Clock.Now(), func(i *trove.Instance) error {
			alter(i)
			return nil
		})
		if err != nil || event == nil {
			return err
		}
		return tx.CountInstanceEvent(ctx, *event, countedWithin)
	})
	if trove.IsNotFound(err) {
		return nil // deleted meanwhile
	}
	if err != nil {
		return fmt.Errorf("write the state of %s: %w", id, err)
	}
	return nil
}

// countedWithin is how long the same happening is one line of the timeline.
const countedWithin = 10 * time.Minute

// say writes an event into the timeline of an instance.
func say(ctx context.Context, c Config, id, kind, sentence string) error {
	err := c.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		return tx.CountInstanceEvent(ctx, trove.InstanceEvent{InstanceID: id, At: c.Clock.Now(), Kind: kind, Sentence: sentence}, countedWithin)
	})
	if err != nil {
		return fmt.Errorf("write an event of %s: %w", id, err)
	}
	return nil
}

// idle reads an instance and whether an operation is open on it. An instance that is gone counts as busy: there is nothing to do.
func idle(ctx context.Context, s store.Store, id string) (specs.Wish, bool, error) {
	w, err := specs.Load(ctx, s, id)
	if trove.IsNotFound(err) {
		return specs.Wish{}, true, nil
	}
	if err != nil {
		return specs.Wish{}, true, err //nolint:wrapcheck // says which instance
	}
	_, err = s.OpenOperation(ctx, id)
	if err != nil && !trove.IsNotFound(err) {
		return specs.Wish{}, true, fmt.Errorf("read the open operation of %s: %w", id, err)
	}
	return w, err == nil, nil
}

// removeAll removes everything that the cloud has of an instance.
func removeAll(ctx context.Context, c cloud.Provider, id string) error {
	if err := c.RemoveMachine(ctx, id); err != nil {
		return fmt.Errorf("remove the machine of %s: %w", id, err)
	}
	if err := c.RemoveName(ctx, id); err != nil {
		return fmt.Errorf("remove the name of %s: %w", id, err)
	}
	if err := c.RemoveNetwork(ctx, id); err != nil {
		return fmt.Errorf("remove the network of %s: %w", id, err)
	}
	if err := c.RemoveVolume(ctx, id); err != nil {
		return fmt.Errorf("remove the volume of %s: %w", id, err)
	}
	if g, ok := c.(cloud.Grouper); ok {
		if err := g.RemoveGroup(ctx, id); err != nil {
			return fmt.Errorf("remove the group of %s: %w", id, err)
		}
	}
	return nil
}

// forget drops the entries of instances that are not among the living any more.
func forget[V any](m map[string]V, living map[string]struct{}) {
	maps.DeleteFunc(m, func(id string, _ V) bool { _, ok := living[id]; return !ok })
}
