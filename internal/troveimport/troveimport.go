// Package troveimport takes what a Python Trove has in its database into the store: datastores, versions, instances, quotas and who enabled root, with the
// same ids.
//
// Everything is done in one transaction, or nothing; a dry run does the same and takes it back, so that its report is what would be. It may be repeated: what
// is there stays as it is. Of an instance the row is taken, not its machine and its data: it is UNKNOWN, with a fault that says so, until it is deleted.
package troveimport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

// Action is what became of something.
type Action string

// The actions.
const (
	Taken Action = "taken"
	There Action = "there" // it was there already
	Left  Action = "left"
)

// Item is a line of the report.
type Item struct {
	Kind   string // datastore, version, instance, quota, root; or what a table holds
	ID     string
	Name   string
	Action Action
	Reason string
}

// errDry takes a dry run back.
var errDry = errors.New("a dry run")

// run is one import.
type run struct {
	tx     store.Tx
	now    time.Time
	report []Item

	datastores map[string]trove.Datastore        // by the id in the source
	versions   map[string]trove.DatastoreVersion // likewise
}

// Import reads the source and writes the store, or with dry only says what it would do.
func Import(ctx context.Context, from *Source, into store.Store, now time.Time, dry bool) ([]Item, error) {
	tables, err := read(ctx, from)
	if err != nil {
		return nil, err
	}
	if len(tables["instances"])+len(tables["datastores"]) == 0 {
		return nil, trove.Errorf(trove.KindBadRequest, "The source has no instances and no datastores: it is not the database of a Trove.")
	}
	var report []Item
	err = into.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		r := run{tx: tx, now: now, datastores: map[string]trove.Datastore{}, versions: map[string]trove.DatastoreVersion{}}
		if err := r.all(ctx, tables); err != nil {
			return err
		}
		report = r.report
		if dry {
			return errDry
		}
		return nil
	})
	if err != nil && !errors.Is(err, errDry) {
		return nil, fmt.Errorf("import: %w", err)
	}
	return report, nil
}

// taken are the tables that are read row by row; counted are those that are left, and why.
var taken = []string{"datastores", "datastore_versions", "datastore_version_metadata", "quotas", "instances", "root_enabled_history"}

var counted = map[string]string{
	"configurations":   "this release of the service has no configuration groups",
	"backups":          "this release of the service has no backups; the objects stay where they are",
	"backup_strategy":  "this release of the service has no backups",
	"modules":          "this release of the service has no modules",
	"clusters":         "this release of the service has no clusters",
	"security_groups":  "the access rules of an instance are part of it",
	"service_statuses": "guests report anew",
}

func read(ctx context.Context, from *Source) (map[string][]record, error) {
	tables := map[string][]record{}
	for _, table := range taken {
		rows, err := from.rows(ctx, table)
		if err != nil {
			return nil, err
		}
		tables[table] = rows
	}
	for table := range counted {
		rows, err := from.rows(ctx, table)
		if err != nil {
			return nil, err
		}
		tables[table] = slices.DeleteFunc(rows, func(r record) bool { return r.flag("deleted") })
	}
	return tables, nil
}

func (r *run) say(kind, id, name string, a Action, reason string, args ...any) {
	r.report = append(r.report, Item{Kind: kind, ID: id, Name: name, Action: a, Reason: fmt.Sprintf(reason, args...)})
}

func (r *run) all(ctx context.Context, tables map[string][]record) error {
	steps := []struct {
		table string
		take  func(context.Context, record) error
	}{
		{"datastores", r.datastore},
		{"datastore_versions", r.version(tables["datastore_version_metadata"])},
		{"datastores", r.defaultVersion},
		{"quotas", r.quota},
		{"instances", r.instance},
		{"root_enabled_history", r.root},
	}
	for _, s := range steps {
		for _, row := range ordered(tables[s.table]) {
			if err := s.take(ctx, row); err != nil {
				return fmt.Errorf("%s %s: %w", s.table, row["id"], err)
			}
		}
	}
	for _, table := range sortedKeys(counted) {
		if n := len(tables[table]); n > 0 {
			r.say(table, "", strconv.Itoa(n)+" rows", Left, "%s", counted[table])
		}
	}
	return nil
}

func (r *run) datastore(ctx context.Context, row record) error {
	id, name := row["id"], row["name"]
	d, err := r.tx.Datastore(ctx, name)
	switch {
	case err == nil && d.ID != id:
		r.say("datastore", id, name, There, "it has the id %s here", d.ID)
	case err == nil:
		r.say("datastore", id, name, There, "")
	case trove.IsNotFound(err):
		d = trove.Datastore{ID: id, Name: name}
		if err := r.tx.PutDatastore(ctx, d); err != nil {
			return err
		}
		r.say("datastore", id, name, Taken, "")
	default:
		return err
	}
	r.datastores[id] = d
	return nil
}

// version takes a version. What the control plane must know of its engine is not in the source: it comes from a version that is here with the same manager.
func (r *run) version(metadata []record) func(context.Context, record) error {
	return func(ctx context.Context, row record) error {
		id, name, number := row["id"], row["name"], row["version"]
		if number == "" {
			number = name
		}
		d, ok := r.datastores[row["datastore_id"]]
		if !ok {
			r.say("version", id, name, Left, "its datastore %s is not in the source", row["datastore_id"])
			return nil
		}
		all, err := r.tx.DatastoreVersions(ctx, "")
		if err != nil {
			return err
		}
		same := func(v trove.DatastoreVersion) bool {
			return v.ID == id || v.DatastoreID == d.ID && v.Name == name && v.Version == number
		}
		if n := slices.IndexFunc(all, same); n >= 0 {
			r.versions[id] = all[n]
			reason := ""
			if all[n].ID != id {
				reason = "it has the id " + all[n].ID + " here"
			}
			r.say("version", id, d.Name+" "+name, There, "%s", reason)
			return nil
		}
		v := trove.DatastoreVersion{
			ID: id, DatastoreID: d.ID, DatastoreName: d.Name, Name: name, Version: number, Manager: row["manager"], ImageID: row["image_id"],
			Active: row.flag("active"), Packages: commas(row["packages"]),
			FlavorIDs: values(metadata, id, "flavor"), VolumeTypes: values(metadata, id, "volume_type"),
		}
		reason := ""
		if n := slices.IndexFunc(all, func(o trove.DatastoreVersion) bool { return o.Manager == v.Manager && o.Capabilities.Port > 0 }); n >= 0 {
			v.Capabilities = all[n].Capabilities
		} else {
			v.Active, reason = false, "not active: there is no image of the manager "+v.Manager+" here"
		}
		r.versions[id] = v
		r.say("version", id, d.Name+" "+name, Taken, "%s", reason)
		return r.tx.PutDatastoreVersion(ctx, v)
	}
}

// defaultVersion sets the default of a datastore that has none.
func (r *run) defaultVersion(ctx context.Context, row record) error {
	d := r.datastores[row["id"]]
	v, ok := r.versions[row["default_version_id"]]
	if !ok || d.DefaultVersionID != "" {
		return nil
	}
	d.DefaultVersionID = v.ID
	return r.tx.PutDatastore(ctx, d)
}

// quota sets a limit that is still the default here.
func (r *run) quota(ctx context.Context, row record) error {
	project, resource := row["tenant_id"], row["resource"]
	name := project + " " + resource
	limit, whole := number(row["hard_limit"])
	if !whole || project == "" {
		r.say("quota", row["id"], name, Left, "it has no limit or no project")
		return nil
	}
	now, known, err := r.limit(ctx, project, resource)
	if err != nil {
		return err
	}
	usual, _, err := r.limit(ctx, "", resource)
	if err != nil {
		return err
	}
	switch {
	case !known:
		r.say("quota", row["id"], name, Left, "there is no such resource here")
	case now.Limit == limit:
		r.say("quota", row["id"], name, There, "")
	case now.Limit != usual.Limit:
		r.say("quota", row["id"], name, There, "it was set to %d here, and is %d in the source", now.Limit, limit)
	default:
		r.say("quota", row["id"], name, Taken, "%d", limit)
		return r.tx.SetQuota(ctx, project, resource, limit)
	}
	return nil
}

func (r *run) limit(ctx context.Context, project, resource string) (trove.Quota, bool, error) {
	all, err := r.tx.Quotas(ctx, project)
	if err != nil {
		return trove.Quota{}, false, err
	}
	n := slices.IndexFunc(all, func(q trove.Quota) bool { return q.Resource == resource })
	if n < 0 {
		return trove.Quota{}, false, nil
	}
	return all[n], true, nil
}

const imported = "This instance comes from another Trove. Its machine and its data are not under the control of this service."

func (r *run) instance(ctx context.Context, row record) error {
	id, name := row["id"], row["name"]
	if row.flag("deleted") {
		return nil
	}
	if _, err := r.tx.Instance(ctx, id); err == nil {
		r.say("instance", id, name, There, "")
		return nil
	} else if !trove.IsNotFound(err) {
		return err
	}
	v, known := r.versions[row["datastore_version_id"]]
	task, _ := strconv.Atoi(row["task_id"])
	switch {
	case !trove.ValidID(id) || row["tenant_id"] == "":
		r.say("instance", id, name, Left, "it has no id or no project")
		return nil
	case !known:
		r.say("instance", id, name, Left, "its datastore version %q is not in the source", row["datastore_version_id"])
		return nil
	case row["cluster_id"] != "":
		r.say("instance", id, name, Left, "it is part of a cluster")
		return nil
	case trove.Task(task) != trove.TaskNone && !trove.Task(task).IsError():
		r.say("instance", id, name, Left, "something is being done to it: task %s", trove.Task(task).Action())
		return nil
	}
	if _, err := r.tx.DeletedInstance(ctx, id); err == nil {
		r.say("instance", id, name, Left, "it was here and was deleted")
		return nil
	} else if !trove.IsNotFound(err) {
		return err
	}
	size, _ := strconv.Atoi(row["volume_size"])
	i := trove.Instance{
		ID: id, ProjectID: row["tenant_id"], Name: name, Created: row.time("created"), Updated: row.time("updated"), Task: trove.Task(task),
		ServerStatus: trove.ServerNone, DatastoreVersionID: v.ID, FlavorID: row["flavor_id"], VolumeSize: size, Region: row["region_id"], Hostname: row["hostname"],
		ReplicaOf: row["slave_of_id"], ComputeID: row["compute_instance_id"], VolumeID: row["volume_id"],
		Fault: &trove.Fault{Message: imported, Created: r.now}, Held: map[string]int{trove.QuotaInstances: 1, trove.QuotaVolumes: size},
	}
	reason := ""
	if text := row["access"]; text != "" && json.Unmarshal([]byte(text), &i.Access) != nil {
		reason = "its access rules cannot be read and are left out"
	}
	if err := r.hold(ctx, i); err != nil {
		return err
	}
	r.say("instance", id, name, Taken, "%s", reason)
	return r.tx.InsertInstance(ctx, i)
}

// hold counts the instance. A project that would have more than it may gets the limit that it needs: the instances are there.
func (r *run) hold(ctx context.Context, i trove.Instance) error {
	for _, resource := range sortedKeys(i.Held) {
		q, _, err := r.limit(ctx, i.ProjectID, resource)
		if err != nil {
			return err
		}
		if need := q.InUse + q.Reserved + i.Held[resource]; q.Limit >= 0 && need > q.Limit {
			r.say("quota", "", i.ProjectID+" "+resource, Taken, "raised to %d for instance %s", need, i.ID)
			if err := r.tx.SetQuota(ctx, i.ProjectID, resource, need); err != nil {
				return err
			}
		}
	}
	return r.tx.TakeQuota(ctx, i.ProjectID, i.Held)
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
