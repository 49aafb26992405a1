package api

import (
	"context"
	"fmt"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/store"
)

// mgmtActions are the bodies of POST /mgmt/instances/{instance}/action.
var mgmtActions = map[string]handler{
	"stop":              (*server).stopEngine,
	"reboot":            (*server).rebootInstance,
	"migrate":           (*server).migrateInstance,
	"rebuild":           (*server).rebuildInstance,
	"reset-task-status": (*server).resetTask,
	"upgrade_agent":     (*server).upgradeAgent,
}

func (s *server) manageInstance(ctx context.Context, c *call) (any, error) {
	if len(c.body) != 1 {
		return nil, bad("Only one action can be specified per request.")
	}
	for name := range c.body {
		if act, ok := mgmtActions[name]; ok {
			return act(s, ctx, c)
		}
		return nil, bad("Invalid instance action: %s", name)
	}
	return nil, nil
}

// stopEngine ends the database and not its machine. The status stays ACTIVE; operating_status is empty until the database is down, and SHUTDOWN then.
func (s *server) stopEngine(ctx context.Context, c *call) (any, error) {
	return nil, s.begin(ctx, c, trove.OpStopEngine, nil, func(_ context.Context, _ store.Tx, i *trove.Instance) error {
		err := i.CheckStoppable(i.BackingUp)
		i.Task = trove.TaskUpdating
		return err
	})
}

func (s *server) rebootInstance(ctx context.Context, c *call) (any, error) {
	return nil, s.begin(ctx, c, trove.OpReboot, nil, func(ctx context.Context, tx store.Tx, i *trove.Instance) error {
		if err := i.CheckRebootable(i.BackingUp); err != nil {
			return err
		}
		i.Task = trove.TaskRebooting
		return tx.SetServiceStatus(ctx, i.ID, trove.ServiceRestarting, s.cfg.Clock.Now())
	})
}

// migrateInstance asks the cloud first whether it can.
func (s *server) migrateInstance(ctx context.Context, c *call) (any, error) {
	host := c.body.obj("migrate").str("host")
	p, ok := s.cfg.Catalog.(cloud.Placement)
	if !ok {
		return nil, trove.Errorf(trove.KindNotImplemented, "This cloud cannot move machines to another host.")
	}
	if err := p.Migratable(ctx, host); err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	return nil, s.begin(ctx, c, trove.OpMigrate, trove.MigrateInput{Host: host}, func(_ context.Context, _ store.Tx, i *trove.Instance) error {
		err := i.CheckRebootable(i.BackingUp)
		i.Task = trove.TaskMigrating
		return err
	})
}

// rebuildInstance makes the machine anew from the image that the datastore version has now, which is the one that the caller has to name: an instance of one
// version with the image of another would not be what it says.
func (s *server) rebuildInstance(ctx context.Context, c *call) (any, error) {
	version, known, err := s.datastoreVersion(ctx, c.instance.DatastoreVersionID)
	if err != nil {
		return nil, err
	}
	want := c.body.obj("rebuild").str("image_id")
	if !known || want != version.ImageID {
		return nil, bad("Image %s is not the image of the instance's datastore version %s, which is %s.", want, version.Name, version.ImageID)
	}
	if err := s.cfg.Catalog.ImageExists(ctx, want); err != nil {
		return nil, asBadRequest(fmt.Errorf("find the image: %w", err), "Image %s cannot be found.", want)
	}
	return nil, s.begin(ctx, c, trove.OpRebuild, nil, func(_ context.Context, _ store.Tx, i *trove.Instance) error {
		err := i.CheckRebootable(i.BackingUp)
		i.Task = trove.TaskBuilding
		return err
	})
}

// resetTask takes an instance out of a task that hangs, and cancels its open operation. What the guest said last stays. A deletion goes on.
func (s *server) resetTask(ctx context.Context, c *call) (any, error) {
	if err := s.freeOfTask(ctx, c, false); err != nil {
		return nil, fmt.Errorf("reset the task: %w", err)
	}
	return nil, nil
}

// upgradeByTroveName is upgradeAgent with the words of Trove's call.
func (s *server) upgradeByTroveName(ctx context.Context, c *call) (any, error) {
	c.body = object{"upgrade_agent": map[string]any{"version": c.body.obj("upgrade").str("instance_version")}}
	return s.upgradeAgent(ctx, c)
}
