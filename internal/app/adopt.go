package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/internal/troveimport"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/taskmanager/specs"
)

// Adopter takes over servers and volumes of instances that were imported from a Python Trove. The service runs meanwhile: its taskmanager makes the new machine.
type Adopter struct {
	store    Adoptions
	provider cloud.Provider
	foreign  cloud.Adopter
	clock    clock.Clock
	close    func() error
}

// Adoptions is what an Adopter needs of the store.
type Adoptions interface {
	store.Reader
	InTx(ctx context.Context, fn func(ctx context.Context, tx store.Tx) error) error
}

// adoptLook is how often it is looked whether a step is done; a step that takes longer than adoptLimit has failed.
const (
	adoptLook  = time.Second
	adoptLimit = 20 * time.Minute
)

// OpenAdopter opens the store and the cloud of the configuration. Master is as in OpenKeys.
func OpenAdopter(ctx context.Context, cfg config.Config, master string) (*Adopter, error) {
	if cfg.Cloud != config.CloudOpenStack {
		return nil, trove.Errorf(trove.KindBadRequest, "Instances are taken over where they are, in OpenStack: the configuration has cloud: %s.", cfg.Cloud)
	}
	k, err := OpenKeys(ctx, cfg, master)
	if err != nil {
		return nil, err
	}
	kept, err := k.deployment(ctx)
	if err != nil {
		return nil, errors.Join(err, k.Close())
	}
	c := &controllers{
		cfg: cfg, state: StateDir(cfg.State), store: k.store, keys: kept, clock: k.clock, log: slog.New(slog.DiscardHandler), metrics: prometheus.NewRegistry(),
	}
	c.closing(k.Close)
	provider, _, err := c.openStack(ctx)
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	a, err := NewAdopter(k.store, provider, k.clock)
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	a.close = c.close
	return a, nil
}

// NewAdopter is an Adopter over a store and a cloud.
func NewAdopter(s Adoptions, p cloud.Provider, c clock.Clock) (*Adopter, error) {
	foreign, ok := p.(cloud.Adopter)
	if !ok {
		return nil, trove.Errorf(trove.KindNotImplemented, "This cloud cannot take over instances of another Trove.")
	}
	return &Adopter{store: s, provider: p, foreign: foreign, clock: c, close: func() error { return nil }}, nil
}

// Close closes what was opened.
func (a *Adopter) Close() error { return a.close() }

// AdoptPlan is what there is of an instance, and what stands in the way of taking it over.
type AdoptPlan struct {
	cloud.Foreign
	Instance trove.Instance
	Version  trove.DatastoreVersion
	Flavor   trove.Flavor

	adoption cloud.Adoption
}

// Plan looks, and changes nothing. Server names the old server where neither the row nor the cloud tells; "": they do.
func (a *Adopter) Plan(ctx context.Context, instance, server string) (AdoptPlan, error) {
	w, err := specs.Load(ctx, a.store, instance)
	if err != nil {
		return AdoptPlan{}, err
	}
	p := AdoptPlan{Instance: w.Instance, Version: w.Version, adoption: cloud.Adoption{Network: w.Network(w.Instance.Access), ServerID: server, VolumeID: w.Instance.VolumeID}}
	if server == "" && w.Instance.ServerStatus == trove.ServerNone {
		p.adoption.ServerID = w.Instance.ComputeID
	}
	if p.Foreign, err = a.foreign.FindForeign(ctx, p.adoption); err != nil {
		return AdoptPlan{}, err
	}
	p.adoption.ServerID = cmp.Or(p.adoption.ServerID, p.ServerID)
	say := func(format string, args ...any) { p.Problems = append(p.Problems, fmt.Sprintf(format, args...)) }
	switch i := w.Instance; {
	case i.ServerStatus != trove.ServerNone:
		say("It has a machine of this service.")
	case i.ReplicaOf != "":
		say("It is a replica of %s: detach it in the other Trove, and repeat the import.", i.ReplicaOf)
	case i.Access.IsPublic:
		say("It is public: make it not public in the other Trove, repeat the import, and make it public again when it is taken over.")
	}
	if !adopts(w.Version.Manager) {
		say("The driver %s cannot begin with data of another Trove: bring them by a dump into a new instance.", w.Version.Manager)
	}
	if !w.Version.Active || w.Version.Capabilities.Port == 0 {
		say("Its datastore version %s is not active here: give it an image of this service (trove openstack bootstrap).", w.Version.Name)
	} else if err := a.provider.ImageExists(ctx, w.Version.ImageID); err != nil {
		say("%s", trove.MessageOf(err))
	}
	if p.Flavor, err = a.provider.Flavor(ctx, cloud.Rights{Project: w.Instance.ProjectID}, w.Instance.FlavorID); err != nil {
		say("%s", trove.MessageOf(err))
	}
	if op, err := a.store.OpenOperation(ctx, instance); err == nil {
		say("Something is being done to it: %s.", op.Sentence)
	} else if !trove.IsNotFound(err) {
		return AdoptPlan{}, fmt.Errorf("look for an operation of instance %s: %w", instance, err)
	}
	return p, nil
}

// adopts reports whether the guest's driver can begin with data of another Trove.
func adopts(manager string) bool {
	return slices.ContainsFunc(drivers(), func(e engine.Engine) bool {
		_, ok := e.(engine.Adopter)
		return ok && e.Info().Manager == manager
	})
}

// Adopt takes the instance over, and says what is being done. What goes wrong in the cloud is taken back; what goes wrong later leaves the old server stopped, for Back.
func (a *Adopter) Adopt(ctx context.Context, p AdoptPlan, say func(string)) error {
	if len(p.Problems) > 0 {
		return trove.Errorf(trove.KindConflict, "Instance %s cannot be taken over. %s", p.Instance.ID, strings.Join(p.Problems, " "))
	}
	if err := a.carry(ctx, p.adoption, say, a.foreign.Adopt); err != nil {
		say("taking it back: " + trove.MessageOf(err))
		return errors.Join(err, a.carry(context.WithoutCancel(ctx), p.adoption, say, a.foreign.GiveBack))
	}
	var id string
	err := a.store.InTx(ctx, func(ctx context.Context, tx store.Tx) (err error) {
		if err := a.take(ctx, tx, p); err != nil {
			return err
		}
		id, err = workflow.Enqueue(ctx, tx, a.clock.Now(), workflow.Request{
			Kind: trove.OpCreate, Target: p.Instance.ID, ProjectID: p.Instance.ProjectID, Input: trove.CreateInput{Flavor: p.Flavor, Adopt: true},
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("ask for the machine: %w", err)
	}
	return a.await(ctx, id, say)
}

// take prepares the row; the memory counts from now on.
func (a *Adopter) take(ctx context.Context, tx store.Tx, p AdoptPlan) error {
	more := p.Flavor.RAM - p.Instance.Held[trove.QuotaRAM]
	if more > 0 {
		if err := tx.TakeQuota(ctx, p.Instance.ProjectID, map[string]int{trove.QuotaRAM: more}); err != nil {
			return err
		}
	}
	return tx.UpdateInstance(ctx, p.Instance.ID, a.clock.Now(), func(i *trove.Instance) error {
		i.Task, i.Fault = trove.TaskBuilding, nil
		if more > 0 {
			if i.Held == nil {
				i.Held = map[string]int{}
			}
			i.Held[trove.QuotaRAM] += more
		}
		return nil
	})
}

// carry calls until there is nothing left to do. What passes is tried again.
func (a *Adopter) carry(ctx context.Context, what cloud.Adoption, say func(string), call func(context.Context, cloud.Adoption) (string, error)) error {
	ctx, cancel := context.WithTimeout(ctx, adoptLimit)
	defer cancel()
	last := ""
	for {
		doing, err := call(ctx, what)
		switch {
		case err != nil && (trove.IsPermanent(err) || ctx.Err() != nil):
			return err
		case err == nil && doing == "":
			return nil
		case err != nil:
			doing = "trying again: " + trove.MessageOf(err)
		}
		if doing != last {
			say(doing)
			last = doing
		}
		if clock.Sleep(ctx, adoptLook) != nil {
			return trove.Errorf(trove.KindUnavailable, "It took too long: %s. The command may be repeated.", doing)
		}
	}
}

// await waits for the taskmanager.
func (a *Adopter) await(ctx context.Context, id string, say func(string)) error {
	last := ""
	for {
		op, err := a.store.Operation(ctx, id)
		switch {
		case err != nil:
			return fmt.Errorf("wait for the machine: %w", err)
		case op.State == trove.OperationDone:
			return nil
		case op.State != trove.OperationOpen:
			return trove.Errorf(trove.KindConflict, "The instance was not taken over: %s. The old server is stopped and as it was; start it with --back, or mend what is wrong and repeat this.", op.Error)
		}
		if op.Sentence != last {
			say(op.Sentence)
			last = op.Sentence
		}
		if err := clock.Sleep(ctx, adoptLook); err != nil {
			return fmt.Errorf("wait for the machine: %w", err)
		}
	}
}

// Back removes the machine of this service and starts the old server with the data as it left them. What was written since is lost.
func (a *Adopter) Back(ctx context.Context, p AdoptPlan, say func(string)) error {
	id := p.Instance.ID
	if op, err := a.store.OpenOperation(ctx, id); err == nil {
		return trove.Errorf(trove.KindConflict, "Something is being done to instance %s: %s.", id, op.Sentence)
	} else if !trove.IsNotFound(err) {
		return fmt.Errorf("look for an operation of instance %s: %w", id, err)
	}
	if p.ServerID == "" {
		return trove.Errorf(trove.KindNotFound, "The old server of instance %s is gone: there is no way back.", id)
	}
	if err := a.forget(ctx, p); err != nil {
		return err
	}
	remove := func(ctx context.Context, _ cloud.Adoption) (string, error) {
		return "", errors.Join(a.provider.RemoveMachine(ctx, id), a.provider.RemoveName(ctx, id))
	}
	say("removing the machine of this service")
	for _, call := range []func(context.Context, cloud.Adoption) (string, error){remove, a.foreign.GiveBack} {
		if err := a.carry(ctx, p.adoption, say, call); err != nil {
			return err
		}
	}
	return nil
}

// forget makes the row what it was after the import. It comes before the machine goes: the service runs, and makes a machine again that ought to be there.
func (a *Adopter) forget(ctx context.Context, p AdoptPlan) error {
	return a.store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		now := a.clock.Now()
		return tx.UpdateInstance(ctx, p.Instance.ID, now, func(i *trove.Instance) error {
			i.Task, i.ServerStatus, i.Addresses, i.Hostname = trove.TaskNone, trove.ServerNone, nil, ""
			i.Fault = &trove.Fault{Message: troveimport.Imported, Created: now}
			i.ComputeID = p.ServerID
			return nil
		})
	})
}

// Finish removes the old server and the snapshot.
func (a *Adopter) Finish(ctx context.Context, p AdoptPlan, say func(string)) error {
	if p.Instance.ServerStatus != trove.ServerActive || p.Instance.Task != trove.TaskNone {
		return trove.Errorf(trove.KindConflict, "Instance %s does not run here, or something is done to it: finish when it does.", p.Instance.ID)
	}
	return a.carry(ctx, p.adoption, say, a.foreign.FinishAdoption)
}
