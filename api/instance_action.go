package api

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/store"
)

// actions are the bodies of POST /instances/{instance}/action.
var actions = map[string]handler{
	"restart":                   (*server).restartInstance,
	"start":                     (*server).startInstance,
	"stop":                      (*server).stopInstance,
	"resize":                    (*server).resizeInstance,
	"reset_status":              (*server).resetStatus,
	"upgrade_rollback":          (*server).rollbackUpgrade,
	"upgrade_confirm":           (*server).confirmUpgrade,
	"promote_to_replica_source": (*server).promoteInstance,
	"eject_replica_source":      (*server).ejectInstance,
}

func (s *server) actOnInstance(ctx context.Context, c *call) (any, error) {
	if len(c.body) != 1 {
		return nil, bad("Exactly one action is expected, one of %s.", pythonList(slices.Sorted(maps.Keys(actions))))
	}
	for name := range c.body {
		if act, ok := actions[name]; ok {
			return act(s, ctx, c)
		}
		return nil, bad("There is no action %s. The actions are %s.", pythonRepr(name), pythonList(slices.Sorted(maps.Keys(actions))))
	}
	return nil, nil
}

func (s *server) restartInstance(ctx context.Context, c *call) (any, error) {
	if err := s.enforce(c, "instance:restart", c.instance.ProjectID); err != nil {
		return nil, err
	}
	if c.instance.ClusterID != "" && !c.admin {
		return nil, inCluster()
	}
	return nil, s.begin(ctx, c, trove.OpRestart, nil, func(ctx context.Context, tx store.Tx, i *trove.Instance) error {
		if err := actionable(i, trove.TaskRebooting); err != nil {
			return err
		}
		return tx.SetServiceStatus(ctx, i.ID, trove.ServiceRestarting, s.cfg.Clock.Now())
	})
}

// stopInstance ends the database and its machine; the instance keeps its data, addresses and quota. It is not in Trove.
func (s *server) stopInstance(ctx context.Context, c *call) (any, error) {
	if err := s.enforce(c, "instance:stop", c.instance.ProjectID); err != nil {
		return nil, err
	}
	return nil, s.begin(ctx, c, trove.OpStop, nil, func(_ context.Context, _ store.Tx, i *trove.Instance) error {
		err := i.CheckStoppable(i.BackingUp)
		i.Task = trove.TaskRebooting
		return err
	})
}

// startInstance starts an instance that was stopped. It is not in Trove.
func (s *server) startInstance(ctx context.Context, c *call) (any, error) {
	if err := s.enforce(c, "instance:start", c.instance.ProjectID); err != nil {
		return nil, err
	}
	return nil, s.begin(ctx, c, trove.OpStart, nil, func(_ context.Context, _ store.Tx, i *trove.Instance) error {
		err := i.CheckStartable()
		i.Task = trove.TaskRebooting
		return err
	})
}

func (s *server) resizeInstance(ctx context.Context, c *call) (any, error) {
	want := c.body.obj("resize")
	if len(want) != 1 || (!want.has("volume") && !want.has("flavorRef")) {
		return nil, bad("Validation error: resize needs either 'volume' or 'flavorRef'")
	}
	if want.has("volume") {
		return nil, s.resizeVolume(ctx, c, want.obj("volume"))
	}
	return nil, s.resizeFlavor(ctx, c, want.ref("flavorRef"))
}

func (s *server) resizeVolume(ctx context.Context, c *call, want object) error {
	if err := s.enforce(c, "instance:resize_volume", c.instance.ProjectID); err != nil {
		return err
	}
	size, err := s.checkSize(want)
	if err != nil {
		return err
	}
	if c.instance.VolumeSize == 0 {
		return trove.Errorf(trove.KindBadRequest, "Instance %s does not have a volume.", c.instance.ID)
	}
	input := trove.ResizeVolumeInput{New: size}
	return s.begin(ctx, c, trove.OpResizeVolume, &input, func(ctx context.Context, tx store.Tx, i *trove.Instance) error {
		if err := changeable(i, trove.TaskResizing); err != nil {
			return err
		}
		if size <= i.VolumeSize {
			return trove.Errorf(trove.KindBadRequest, "The new volume 'size' must be larger than the current volume size of '%d'.", i.VolumeSize)
		}
		input.Old = i.VolumeSize
		return hold(ctx, tx, i, trove.QuotaVolumes, size)
	})
}

func (s *server) resizeFlavor(ctx context.Context, c *call, ref string) error {
	if err := s.enforce(c, "instance:resize_flavor", c.instance.ProjectID); err != nil {
		return err
	}
	version, _, err := s.datastoreVersion(ctx, c.instance.DatastoreVersionID)
	if err != nil {
		return err
	}
	flavor, err := s.chooseFlavor(ctx, c, ref, true, &version)
	if err != nil {
		return err
	}
	old, err := s.cfg.Catalog.Flavor(ctx, cloud.AsService(), c.instance.FlavorID) // the instance has it, whoever may see it
	if trove.IsNotFound(err) {                                                    // the catalogue may lose a flavor that instances have
		old, err = trove.Flavor{ID: c.instance.FlavorID, Name: c.instance.FlavorID, RAM: c.instance.Held[trove.QuotaRAM], VCPUs: 1}, nil
	}
	if err != nil {
		return fmt.Errorf("read the flavor: %w", err)
	}
	input := trove.ResizeFlavorInput{Old: old, New: flavor}
	return s.begin(ctx, c, trove.OpResizeFlavor, &input, func(ctx context.Context, tx store.Tx, i *trove.Instance) error {
		if err := changeable(i, trove.TaskResizing); err != nil {
			return err
		}
		if i.FlavorID == flavor.ID {
			return trove.Errorf(trove.KindBadRequest, "The new flavor id must be different than the current flavor id of '%s'.", i.FlavorID)
		}
		if i.FlavorID != old.ID {
			return trove.Errorf(trove.KindUnavailable, "The instance's flavor was changed just now. Try again.")
		}
		return hold(ctx, tx, i, trove.QuotaRAM, flavor.RAM)
	})
}

// hold takes what is missing for the instance to hold an amount of a resource. What it holds too much is given back by the operation's end.
func hold(ctx context.Context, tx store.Tx, i *trove.Instance, resource string, amount int) error {
	missing := amount - i.Held[resource]
	if missing <= 0 {
		return nil
	}
	if err := tx.TakeQuota(ctx, i.ProjectID, map[string]int{resource: missing}); err != nil {
		return err
	}
	held := maps.Clone(i.Held)
	if held == nil {
		held = map[string]int{}
	}
	held[resource] = amount
	i.Held = held
	return nil
}

// resetStatus takes an instance out of a task that hangs: its open operation is cancelled, and nothing is believed of the guest until it reports. A
// deletion goes on: what is left of the instance could not be used any more. An upgrade that has failed stays one while its data of before is kept.
func (s *server) resetStatus(ctx context.Context, c *call) (any, error) {
	rule := "instance:reset_status"
	if c.body.obj("reset_status").has("force_delete") {
		rule = "instance:force_delete"
	}
	if err := s.enforce(c, rule, c.instance.ProjectID); err != nil {
		return nil, err
	}
	if err := s.freeOfTask(ctx, c, true); err != nil {
		return nil, fmt.Errorf("reset status: %w", err)
	}
	return nil, nil
}

// freeOfTask is resetInstance of the instance of the call.
func (s *server) freeOfTask(ctx context.Context, c *call, doubt bool) error {
	err := s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		return resetInstance(ctx, tx, c.instance.ID, s.cfg.Clock.Now(), doubt)
	})
	if err == nil && s.cfg.Wake != nil {
		s.cfg.Wake(ctx)
	}
	return err
}

// resetInstance clears the task of an instance and cancels its open operation. With doubt nothing is known of the database any more, and backups of it that
// run have failed.
func resetInstance(ctx context.Context, tx store.Tx, id string, now time.Time, doubt bool) error {
	deleting := false
	err := tx.UpdateInstance(ctx, id, now, func(i *trove.Instance) error {
		if deleting = i.Task == trove.TaskDeleting; deleting {
			return nil
		}
		if i.Task == trove.TaskUpgradingError { // nothing hangs: it keeps everybody but the way back from the data
			if _, err := tx.KeptData(ctx, id); !trove.IsNotFound(err) {
				return err
			}
		}
		i.Task = trove.TaskNone
		return nil
	})
	if err == nil && doubt {
		err = doubtInstance(ctx, tx, id, now)
	}
	if err != nil || deleting {
		return err
	}
	open, err := tx.OpenOperation(ctx, id)
	if trove.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if err = tx.CancelOperation(ctx, open.ID, now); trove.IsNotFound(err) {
		return nil // it ended between the two statements
	}
	return err
}

func doubtInstance(ctx context.Context, tx store.Tx, id string, now time.Time) error {
	running, err := tx.Backups(ctx, store.BackupFilter{
		InstanceID: id, States: []trove.BackupState{trove.BackupNew, trove.BackupBuilding, trove.BackupSaving},
	})
	if err != nil {
		return err
	}
	for _, b := range running {
		err := tx.UpdateBackup(ctx, b.ID, now, func(b *trove.Backup) error { b.State = trove.BackupFailed; return nil })
		if err != nil {
			return err
		}
	}
	return tx.SetServiceStatus(ctx, id, trove.ServiceUnknown, now)
}

// promoteInstance, ejectInstance and detachInstance say what Trove says of an instance that is not what they are for, and that nothing is done to
// one that is.
func (s *server) promoteInstance(_ context.Context, c *call) (any, error) {
	if err := s.enforce(c, "instance:promote_to_replica_source", c.instance.ProjectID); err != nil {
		return nil, err
	}
	return nil, s.detachInstance(c)
}

func (s *server) ejectInstance(ctx context.Context, c *call) (any, error) {
	if err := s.enforce(c, "instance:eject_replica_source", c.instance.ProjectID); err != nil {
		return nil, err
	}
	replicas, err := s.replicasOf(ctx, []trove.Instance{c.instance})
	if err != nil {
		return nil, err
	}
	if len(replicas[c.instance.ID]) == 0 {
		return nil, bad("Instance %s is not a replica source.", c.instance.ID)
	}
	if !c.instance.Silent(s.cfg.Clock.Now()) {
		return nil, bad("Replica Source %s cannot be ejected as it has a current heartbeat", c.instance.ID)
	}
	return nil, notYet(noReplicas)
}

func (s *server) detachInstance(c *call) error {
	i := &c.instance
	if i.ReplicaOf == "" {
		return bad("Instance %s is not a replica.", i.ID)
	}
	if err := i.CheckActionable(i.BackingUp); err != nil {
		return err
	}
	return notYet(noReplicas)
}

// updateInstance is PUT and PATCH: the name, and at most one thing beside it.
func (s *server) updateInstance(ctx context.Context, c *call) (any, error) {
	want := c.body.obj("instance")
	var others []string
	for key := range want {
		if key != "name" {
			others = append(others, key)
		}
	}
	if len(want) == 0 && c.req.Method == http.MethodPut {
		return nil, s.attach(ctx, c, "") // so gophercloud, and terraform with it, says detach
	}
	if len(others) > 1 {
		return nil, bad("Only one attribute (except 'name') is allowed to update.")
	}
	if err := s.updateOther(ctx, c, want, strings.Join(others, "")); err != nil {
		return nil, err
	}
	name := want.strPtr("name")
	if name == nil || *name == c.instance.Name {
		return nil, nil
	}
	err := s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		return tx.UpdateInstance(ctx, c.instance.ID, s.cfg.Clock.Now(), func(i *trove.Instance) error {
			i.Name = *name
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("rename instance: %w", err)
	}
	return nil, nil
}

func (s *server) updateOther(ctx context.Context, c *call, want object, key string) error {
	switch key {
	case "access":
		return s.updateAccess(ctx, c, want.obj("access"))
	case "configuration":
		return s.attach(ctx, c, want.str("configuration"))
	case "replica_of", "slave_of":
		return s.detachInstance(c)
	case "datastore_version":
		return s.updateVersion(ctx, c, want.str("datastore_version"))
	}
	return nil
}

func (s *server) updateAccess(ctx context.Context, c *call, want object) error {
	access, err := changeAccess(c.instance.Access, want)
	if err != nil {
		return err
	}
	if err := s.checkPublic(ctx, access); err != nil {
		return err
	}
	input := trove.UpdateAccessInput{New: access}
	return s.begin(ctx, c, trove.OpUpdateAccess, &input, func(_ context.Context, _ store.Tx, i *trove.Instance) error {
		if err := changeable(i, trove.TaskUpdating); err != nil {
			return err
		}
		input.Old = i.Access
		input.New, err = changeAccess(i.Access, want)
		return err
	})
}
