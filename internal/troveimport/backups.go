package troveimport

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

// parentsFirst puts each backup after the one that it builds on; else the order stays.
func parentsFirst(rows []record) []record {
	byID := make(map[string]record, len(rows))
	for _, row := range rows {
		byID[row["id"]] = row
	}
	seen, out := map[string]bool{}, make([]record, 0, len(rows))
	for _, row := range rows {
		var chain []record
		for ; row != nil && !seen[row["id"]]; row = byID[row["parent_id"]] {
			seen[row["id"]] = true
			chain = append(chain, row)
		}
		slices.Reverse(chain)
		out = append(out, chain...)
	}
	return out
}

// backupStates are those of backups that nobody is making.
var backupStates = []trove.BackupState{trove.BackupCompleted, trove.BackupFailed, trove.BackupRestored, trove.BackupDeleteFailed}

// backup takes the row of a backup; its object stays where it is.
func (r *run) backup(ctx context.Context, row record) error {
	id, name := row["id"], row["name"]
	if row.flag("deleted") {
		return nil
	}
	if _, err := r.tx.Backup(ctx, id); err == nil {
		r.backups[id] = true
		r.say("backup", id, name, There, "")
		return nil
	} else if !trove.IsNotFound(err) {
		return err
	}
	gone, err := r.tx.BackupDeleted(ctx, id)
	if err != nil {
		return err
	}
	state, parent := trove.BackupState(row["state"]), row["parent_id"]
	reason := ""
	switch {
	case gone:
		reason = "it was here and was deleted"
	case !trove.ValidID(id) || row["tenant_id"] == "":
		reason = "it has no id or no project"
	case state.Running():
		reason = fmt.Sprintf("it is being made: state %s", state)
	case !slices.Contains(backupStates, state):
		reason = fmt.Sprintf("there is no state %q", state)
	case parent != "" && !r.backups[parent]:
		reason = "it builds on backup " + parent + ", which is not here"
	}
	if reason != "" {
		r.say("backup", id, name, Left, "%s", reason)
		return nil
	}
	return r.takeBackup(ctx, row)
}

func (r *run) takeBackup(ctx context.Context, row record) error {
	b := trove.Backup{
		ID: row["id"], ProjectID: row["tenant_id"], InstanceID: row["instance_id"], Name: row["name"], Description: row["description"], ParentID: row["parent_id"],
		State: trove.BackupState(row["state"]), Location: row["location"], Checksum: row["checksum"], StorageDriver: row["storage_driver"], Created: r.created(row), Updated: r.updated(row),
	}
	var reasons []string
	if text := row["size"]; text != "" {
		size, err := strconv.ParseFloat(text, 64)
		if err != nil || size < 0 {
			reasons = append(reasons, "its size cannot be read and is left out")
		} else {
			b.Size = size
		}
	}
	if b.StorageDriver == "" {
		b.StorageDriver = trove.BackendSwift // until release 25 there was no column for it, and no other one
	}
	if v, known := r.versions[row["datastore_version_id"]]; known {
		b.DatastoreVersionID = v.ID
	} else {
		reasons = append(reasons, "its datastore version is not in the source and is left out")
	}
	if err := r.hold(ctx, b.ProjectID, map[string]int{trove.QuotaBackups: 1}); err != nil {
		return err
	}
	r.backups[b.ID] = true
	r.say("backup", b.ID, b.Name, Taken, "%s", strings.Join(reasons, "; "))
	return r.tx.InsertBackup(ctx, b)
}

// strategy takes the container of a project's or of an instance's backups.
func (r *run) strategy(ctx context.Context, row record) error {
	s := trove.BackupStrategy{
		ProjectID: row["tenant_id"], InstanceID: row["instance_id"], Backend: row["backend"], Container: row["swift_container"], Created: r.created(row),
	}
	name := strings.TrimSpace(s.ProjectID + " " + s.InstanceID)
	have, err := r.tx.BackupStrategies(ctx, store.StrategyFilter{ProjectID: s.ProjectID})
	if err != nil {
		return err
	}
	switch {
	case s.ProjectID == "" || s.Container == "":
		r.say("strategy", row["id"], name, Left, "it has no project or no container")
	case s.Backend != trove.BackendSwift:
		r.say("strategy", row["id"], name, Left, "there is no backend %q here", s.Backend)
	case slices.ContainsFunc(have, func(h trove.BackupStrategy) bool { return h.ProjectID == s.ProjectID && h.InstanceID == s.InstanceID }):
		r.say("strategy", row["id"], name, There, "")
	default:
		r.say("strategy", row["id"], name, Taken, "container %s", s.Container)
		return r.tx.PutBackupStrategy(ctx, s)
	}
	return nil
}
