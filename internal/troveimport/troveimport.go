// Package troveimport takes what a Python Trove has in its database into the store: datastores, versions with the rules of their parameters, configuration
// groups, instances, backups and their strategies, quotas and who enabled root, with the same ids.
//
// Everything is done in one transaction, or nothing; a dry run does the same and takes it back, so that its report is what would be. It may be repeated: what
// is there stays as it is. Of an instance the row is taken, not its machine and its data: it is UNKNOWN, with a fault that says so, until it is deleted.
package troveimport

import (
	"context"
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
	Kind   string // datastore, version, parameters, quota, configuration, instance, root, backup, strategy, module, cluster; or the name of a table
	ID     string
	Name   string
	Action Action
	Reason string
}

// errDry takes a dry run back.
var errDry = errors.New("a dry run")

// Options say how to import.
type Options struct {
	Now     time.Time
	Dry     bool           // only say what would be done
	Flavors []trove.Flavor // of this service: what an instance holds of its project's memory. None: they are a cloud's, and the memory counts when the instance is taken over

	// Rules returns those of an engine's parameters for a version of the product; none where there is no such engine here.
	Rules func(manager, version string) []trove.Parameter
}

// run is one import.
type run struct {
	tx      store.Tx
	options Options
	report  []Item

	datastores map[string]trove.Datastore        // by the id in the source
	versions   map[string]trove.DatastoreVersion // likewise
	made       map[string]bool                   // versions that were not here, by id
	groups     map[string]trove.Configuration    // those that are here, by id
	backups    map[string]bool                   // likewise
	raised     map[string]int                    // limits that are higher now, by project and resource
}

// Import reads the source and writes the store, or with Dry only says what it would do.
func Import(ctx context.Context, from *Source, into store.Store, o Options) ([]Item, error) {
	tables, err := read(ctx, from)
	if err != nil {
		return nil, err
	}
	if len(tables["instances"])+len(tables["datastores"]) == 0 {
		return nil, trove.Errorf(trove.KindBadRequest, "The source has no instances and no datastores: it is not the database of a Trove.")
	}
	var report []Item
	err = into.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		r := run{
			tx: tx, options: o, datastores: map[string]trove.Datastore{}, versions: map[string]trove.DatastoreVersion{},
			made: map[string]bool{}, groups: map[string]trove.Configuration{}, backups: map[string]bool{}, raised: map[string]int{},
		}
		if err := r.all(ctx, tables); err != nil {
			return err
		}
		report = r.report
		if o.Dry {
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
var taken = []string{
	"datastores", "datastore_versions", "datastore_version_metadata", "datastore_configuration_parameters", "quotas", "configurations",
	"configuration_parameters", "instances", "root_enabled_history", "backups", "backup_strategy", "modules", "clusters",
}

var counted = map[string]string{
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

// all takes what others refer to before those.
func (r *run) all(ctx context.Context, tables map[string][]record) error {
	steps := []struct {
		table string
		take  func(context.Context, record) error
	}{
		{"datastores", r.datastore},
		{"datastore_versions", r.version(tables["datastore_version_metadata"])},
		{"datastores", r.defaultVersion},
		{"datastore_versions", r.parameters(tables["datastore_configuration_parameters"])},
		{"quotas", r.quota},
		{"configurations", r.configuration(tables["configuration_parameters"], tables["datastore_configuration_parameters"])},
		{"instances", r.instance},
		{"root_enabled_history", r.root},
		{"backups", r.backup},
		{"backup_strategy", r.strategy},
		{"modules", r.leave("module", "its contents are encrypted with a key of the other service: make it anew with trove module create")},
		{"clusters", r.leave("cluster", "a cluster with members cannot be deleted here, so neither it nor they are taken")},
	}
	for _, s := range steps {
		rows := ordered(tables[s.table])
		if s.table == "backups" {
			rows = parentsFirst(rows)
		}
		for _, row := range rows {
			if err := s.take(ctx, row); err != nil {
				return fmt.Errorf("%s %s: %w", s.table, row["id"], err)
			}
		}
	}
	r.sayRaised()
	r.sayDeleted(tables, "backups", "configurations")
	for _, table := range sortedKeys(counted) {
		if n := len(tables[table]); n > 0 {
			r.say(table, "", strconv.Itoa(n)+" rows", Left, "%s", counted[table])
		}
	}
	return nil
}

// sayDeleted counts the rows that are not taken because they are deleted in the source.
func (r *run) sayDeleted(tables map[string][]record, names ...string) {
	for _, table := range names {
		n := 0
		for _, row := range tables[table] {
			if row.flag("deleted") {
				n++
			}
		}
		if n > 0 {
			r.say(table, "", strconv.Itoa(n)+" rows", Left, "they are deleted in the source")
		}
	}
}

// leave says of each living row why it is not taken.
func (r *run) leave(kind, reason string) func(context.Context, record) error {
	return func(_ context.Context, row record) error {
		if !row.flag("deleted") {
			r.say(kind, row["id"], row["name"], Left, "%s", reason)
		}
		return nil
	}
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
		r.versions[id], r.made[id] = v, true
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
