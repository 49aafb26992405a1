package troveimport

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	trove "github.com/trove-dbaas/trove"
)

// Imported is the fault of an instance whose row alone was taken.
const Imported = "This instance comes from another Trove. Its machine and its data are not under the control of this service."

func (r *run) instance(ctx context.Context, row record) error {
	id, name := row["id"], row["name"]
	if row.flag("deleted") {
		return nil
	}
	if i, err := r.tx.Instance(ctx, id); err == nil {
		changed, err := r.again(ctx, &i, row)
		r.say("instance", id, name, There, "%s", strings.Join(changed, "; "))
		return err
	} else if !trove.IsNotFound(err) {
		return err
	}
	if _, err := r.tx.DeletedInstance(ctx, id); err == nil {
		r.say("instance", id, name, Left, "it was here and was deleted")
		return nil
	} else if !trove.IsNotFound(err) {
		return err
	}
	task, _ := number(row["task_id"])
	if reason := r.unfit(row, trove.Task(task)); reason != "" {
		r.say("instance", id, name, Left, "%s", reason)
		return nil
	}
	size, _ := number(row["volume_size"])
	i := trove.Instance{
		ID: id, ProjectID: row["tenant_id"], Name: name, Created: row.time("created"), Updated: row.time("updated"), Task: trove.Task(task),
		ServerStatus: trove.ServerNone, DatastoreVersionID: r.versions[row["datastore_version_id"]].ID, FlavorID: row["flavor_id"], VolumeSize: size,
		Region: row["region_id"], Hostname: row["hostname"], ReplicaOf: row["slave_of_id"], ComputeID: row["compute_instance_id"], VolumeID: row["volume_id"],
		Fault: &trove.Fault{Message: Imported, Created: r.options.Now}, Held: map[string]int{trove.QuotaInstances: 1, trove.QuotaVolumes: size},
	}
	reasons := r.fill(&i, row)
	if err := r.hold(ctx, i.ProjectID, i.Held); err != nil {
		return err
	}
	r.say("instance", id, name, Taken, "%s", strings.Join(reasons, "; "))
	return r.tx.InsertInstance(ctx, i)
}

// again takes up what was changed in the other Trove to make an instance ready to be taken over, as long as it is that one's: what it was a replica of, and that it
// was public. It says what has changed.
func (r *run) again(ctx context.Context, i *trove.Instance, row record) (changed []string, err error) {
	if i.ServerStatus != trove.ServerNone || i.Fault == nil || i.Fault.Message != Imported {
		return nil, nil
	}
	var access trove.Access
	if text := row["access"]; text != "" && json.Unmarshal([]byte(text), &access) != nil {
		access = i.Access
	}
	detached, closed := i.ReplicaOf != "" && row["slave_of_id"] == "", i.Access.IsPublic && !access.IsPublic
	if detached {
		changed = append(changed, "it is no replica any more")
	}
	if closed {
		changed = append(changed, "it is not public any more")
	}
	if len(changed) == 0 {
		return nil, nil
	}
	return changed, r.tx.UpdateInstance(ctx, i.ID, r.options.Now, func(i *trove.Instance) error {
		if detached {
			i.ReplicaOf = ""
		}
		if closed {
			i.Access.IsPublic = false
		}
		return nil
	})
}

// unfit says why an instance is left, "" if it is not.
func (r *run) unfit(row record, task trove.Task) string {
	_, known := r.versions[row["datastore_version_id"]]
	switch {
	case !trove.ValidID(row["id"]) || row["tenant_id"] == "":
		return "it has no id or no project"
	case !known:
		return "its datastore version " + strconv.Quote(row["datastore_version_id"]) + " is not in the source"
	case row["cluster_id"] != "":
		return "it is part of a cluster"
	case task != trove.TaskNone && !task.IsError():
		return "something is being done to it: task " + task.Action()
	}
	return ""
}

// fill sets what an instance may do without, and says what it does without.
func (r *run) fill(i *trove.Instance, row record) (reasons []string) {
	if text := row["access"]; text != "" && json.Unmarshal([]byte(text), &i.Access) != nil {
		i.Access = trove.Access{}
		reasons = append(reasons, "its access rules cannot be read and are left out")
	}
	if id := row["configuration_id"]; id != "" {
		if g, here := r.groups[id]; here && g.DatastoreVersionID == i.DatastoreVersionID {
			i.ConfigurationID = id
		} else {
			reasons = append(reasons, "its configuration group "+id+" is not here for its version and is left out")
		}
	}
	if len(r.options.Flavors) == 0 {
		return append(reasons, "its memory counts when it is taken over")
	}
	n := slices.IndexFunc(r.options.Flavors, func(f trove.Flavor) bool { return f.ID == i.FlavorID })
	if n < 0 {
		return append(reasons, "its memory does not count: there is no flavor "+i.FlavorID+" here")
	}
	i.Held[trove.QuotaRAM] = r.options.Flavors[n].RAM
	return reasons
}

// root takes who enabled the superuser, of an instance that is here.
func (r *run) root(ctx context.Context, row record) error {
	id := row["id"]
	if _, err := r.tx.Instance(ctx, id); trove.IsNotFound(err) {
		return nil // deleted, or left
	} else if err != nil {
		return err
	}
	if _, err := r.tx.RootHistory(ctx, id); err == nil {
		r.say("root", id, row["user"], There, "")
		return nil
	} else if !trove.IsNotFound(err) {
		return err
	}
	r.say("root", id, row["user"], Taken, "")
	return r.tx.SetRootHistory(ctx, trove.RootHistory{InstanceID: id, UserID: row["user"], Enabled: row.time("created"), Disabled: row.time("deleted_at")})
}
