package api

import (
	"context"
	"fmt"
	"net/http"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/store"
)

func upgradeOperations() []Operation {
	return []Operation{{
		ID: "showUpgrade", Method: http.MethodGet, Path: "/instances/{instance}/upgrade", Rule: "instance:show", Extension: true,
		Summary: "Show what an upgrade has kept of an instance. With a datastore version the database is asked what a change to it would meet; nothing is changed.",
		Query:   []Query{{"datastore_version", "string", "name or id of the version to check for"}},
		Success: http.StatusOK, Response: wire.UpgradeBody{}, handle: (*server).showUpgrade,
	}}
}

// upgradeTo finds the version that an instance shall have and says no to what can be known without asking its database; same: it has that version.
func (s *server) upgradeTo(ctx context.Context, c *call, ref string) (now, v trove.DatastoreVersion, same bool, err error) {
	if now, _, err = s.datastoreVersion(ctx, c.instance.DatastoreVersionID); err != nil {
		return now, v, false, err
	}
	ds, err := s.findDatastore(ctx, now.DatastoreID)
	if err != nil {
		return now, v, false, err
	}
	if v, err = s.findVersion(ctx, ds, ref, ""); err != nil || v.ID == now.ID {
		return now, v, err == nil, err
	}
	switch {
	case c.instance.ClusterID != "" && !c.admin:
		return now, v, false, inCluster()
	case v.Manager != now.Manager:
		return now, v, false, bad("Version %s is managed by %s and not by %s: data is not taken over.", v.Name, v.Manager, now.Manager)
	case trove.CompareVersions(v.Version, now.Version) < 0:
		return now, v, false, bad("Version %s is older than %s, which instance %s has: data is not taken over by an older version. "+
			"The action upgrade_rollback takes back the last upgrade while its data is kept.", v.Name, now.Name, c.instance.ID)
	}
	if err := s.cfg.Catalog.ImageExists(ctx, v.ImageID); err != nil {
		return now, v, false, asBadRequest(fmt.Errorf("find the image: %w", err), "Image %s cannot be found.", v.ImageID)
	}
	return now, v, false, s.groupFits(ctx, s.cfg.Store, &c.instance, &v)
}

// groupFits is BadRequest if the instance's configuration group has a value that the version has no rule for.
func (s *server) groupFits(ctx context.Context, r store.Reader, i *trove.Instance, v *trove.DatastoreVersion) error {
	if i.ConfigurationID == "" {
		return nil
	}
	g, err := r.Configuration(ctx, i.ConfigurationID)
	if trove.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the configuration group: %w", err)
	}
	rules, err := r.Parameters(ctx, v.ID, false)
	if err != nil {
		return fmt.Errorf("read the parameters: %w", err)
	}
	if problem := trove.UnfitOverride(rules, g.Overrides()); problem != nil && len(rules) > 0 {
		return trove.Wrap(trove.KindBadRequest, problem, "Configuration group %s does not fit version %s: %s", g.ID, v.Name, trove.MessageOf(problem))
	}
	return nil
}

// updateVersion begins an upgrade. For the version that the instance has there is nothing to do, as in Trove.
func (s *server) updateVersion(ctx context.Context, c *call, ref string) error {
	now, v, same, err := s.upgradeTo(ctx, c, ref)
	if err != nil || same {
		return err
	}
	return s.begin(ctx, c, trove.OpUpgrade, trove.UpgradeInput{Old: now.ID, New: v.ID}, func(ctx context.Context, tx store.Tx, i *trove.Instance) error {
		if err := actionable(i, trove.TaskUpgrading); err != nil {
			return err
		}
		if i.DatastoreVersionID != now.ID {
			return trove.Errorf(trove.KindUnavailable, "The instance's version was changed just now. Try again.")
		}
		_, err := tx.KeptData(ctx, i.ID)
		if err == nil {
			return trove.Errorf(trove.KindConflict, "The data of before the last upgrade of instance %s is still kept. The action upgrade_confirm drops it, "+
				"upgrade_rollback goes back to it.", i.ID)
		}
		if !trove.IsNotFound(err) {
			return err
		}
		return nil
	})
}

// rollbackUpgrade goes back to the version and the data of before the last upgrade. An upgrade that could not put the data back itself leaves its mark as
// the task, which is no hindrance here.
func (s *server) rollbackUpgrade(ctx context.Context, c *call) (any, error) {
	if err := s.enforce(c, "instance:update", c.instance.ProjectID); err != nil {
		return nil, err
	}
	var input trove.RollbackInput
	return nil, s.begin(ctx, c, trove.OpUpgradeRollback, &input, func(ctx context.Context, tx store.Tx, i *trove.Instance) error {
		if _, err := isKept(ctx, tx, i.ID); err != nil {
			return err
		}
		if input.Failed = i.Task == trove.TaskUpgradingError; !input.Failed {
			if err := i.CheckRebootable(i.BackingUp); err != nil {
				return err
			}
		}
		i.Task = trove.TaskUpgrading
		return nil
	})
}

// confirmUpgrade drops the data of before the last upgrade. The database goes on, so the task is not changed.
func (s *server) confirmUpgrade(ctx context.Context, c *call) (any, error) {
	if err := s.enforce(c, "instance:update", c.instance.ProjectID); err != nil {
		return nil, err
	}
	return nil, s.begin(ctx, c, trove.OpUpgradeConfirm, nil, func(ctx context.Context, tx store.Tx, i *trove.Instance) error {
		if i.Task != trove.TaskNone && i.Task != trove.TaskRestartRequired || i.ServerStatus != trove.ServerActive {
			return trove.Errorf(trove.KindUnprocessable, "The kept data of instance %s cannot be dropped now (task %s, machine %s).", i.ID, i.Task.Action(), i.ServerStatus)
		}
		k, err := isKept(ctx, tx, i.ID)
		if err == nil && k.Only(i) {
			return trove.Errorf(trove.KindUnprocessable, "The kept data of instance %s is all that the failed upgrade has left. The action upgrade_rollback puts it in its place.", i.ID)
		}
		return err
	})
}

func isKept(ctx context.Context, r store.Reader, id string) (trove.KeptData, error) {
	k, err := r.KeptData(ctx, id)
	if trove.IsNotFound(err) {
		return k, trove.Wrap(trove.KindBadRequest, err, "Of instance %s no data of an earlier version is kept.", id)
	}
	return k, err
}

func (s *server) showUpgrade(ctx context.Context, c *call) (any, error) {
	var out wire.Upgrade
	k, err := s.cfg.Store.KeptData(ctx, c.instance.ID)
	if err != nil && !trove.IsNotFound(err) {
		return nil, fmt.Errorf("show an upgrade: %w", err)
	}
	if err == nil {
		v, _, err := s.datastoreVersion(ctx, k.DatastoreVersionID)
		if err != nil {
			return nil, err
		}
		out.Kept = &wire.KeptData{DatastoreVersion: v.Name, DatastoreVersionID: k.DatastoreVersionID, Since: wire.Time(k.Since), Bytes: k.Bytes}
	}
	if ref := c.req.URL.Query().Get("datastore_version"); ref != "" {
		if out.Check, err = s.checkUpgrade(ctx, c, ref); err != nil {
			return nil, err
		}
	}
	return &wire.UpgradeBody{Upgrade: out}, nil
}

// checkUpgrade asks what a change to the version would meet. What the API itself would say no to is a finding too: a check is not refused for what it finds.
func (s *server) checkUpgrade(ctx context.Context, c *call, ref string) (*wire.UpgradeCheck, error) {
	now, v, same, err := s.upgradeTo(ctx, c, ref)
	out := wire.UpgradeCheck{DatastoreVersion: v.Name, From: now.Name, Findings: []wire.UpgradeFinding{}}
	switch {
	case v.ID == "" || err != nil && trove.KindOf(err) != trove.KindBadRequest:
		return nil, err
	case err != nil:
		out.Findings = append(out.Findings, wire.UpgradeFinding{Blocks: true, Sentence: trove.MessageOf(err)})
	case same:
		out.Possible = true
		return &out, nil
	}
	if err := c.instance.CheckActionable(c.instance.BackingUp); err != nil {
		return nil, err
	}
	found, err := s.cfg.Guests.CheckUpgrade(ctx, c.instance.ID, v.Version)
	if err != nil {
		return nil, err
	}
	out.Programs, out.Bytes, out.Free, out.Reflink = found.Programs, found.Bytes, found.Free, found.Reflink
	for _, f := range found.Findings {
		out.Findings = append(out.Findings, wire.UpgradeFinding{Blocks: f.Blocks, Sentence: f.Sentence})
	}
	out.Possible = true
	for _, f := range out.Findings {
		out.Possible = out.Possible && !f.Blocks
	}
	return &out, nil
}
