package app

import (
	"context"
	"errors"
	"fmt"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/local"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/internal/imagelayout"
	"github.com/trove-dbaas/trove/internal/troveimport"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

// Admin is what an operator does with the content of the store, whether the service runs or not: the counterparts of trove-manage. Each may be repeated.
type Admin struct {
	cfg   config.Config
	store *sqlstore.Store
}

// OpenAdmin opens the store of a state directory, and brings its schema up to date.
func OpenAdmin(ctx context.Context, cfg config.Config) (*Admin, error) {
	c, err := storeConfig(cfg)
	if err != nil {
		return nil, err
	}
	st, err := sqlstore.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	return &Admin{cfg: cfg, store: st}, nil
}

// Close closes the store.
func (a *Admin) Close() error { return a.store.Close() }

// UpdateDatastore makes the datastore be there, and one of its versions its default. With "" the default stays as it is.
func (a *Admin) UpdateDatastore(ctx context.Context, name, defaultVersion string) (made bool, err error) {
	err = a.store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		d, err := heldDatastore(ctx, tx, name)
		made = trove.IsNotFound(err)
		if made {
			d, err = trove.Datastore{ID: derivedID("datastore", name), Name: name}, nil
		}
		if err != nil {
			return err
		}
		if defaultVersion != "" {
			v, err := findVersion(ctx, tx, d, defaultVersion, "")
			if err != nil {
				return err
			}
			d.DefaultVersionID = v.ID
		}
		return tx.PutDatastore(ctx, d)
	})
	if err != nil {
		return false, fmt.Errorf("update datastore %s: %w", name, err)
	}
	return made, nil
}

// heldDatastore returns a datastore as it is while nobody else changes it or its versions; see store.Holds.
func heldDatastore(ctx context.Context, tx store.Tx, name string) (trove.Datastore, error) {
	d, err := tx.Datastore(ctx, name)
	if err == nil {
		err = tx.HoldDatastore(ctx, d.ID)
	}
	if err != nil {
		return d, err
	}
	return tx.Datastore(ctx, d.ID)
}

// findVersion finds a version of a datastore by id or name, and by number where several have the name.
func findVersion(ctx context.Context, r store.Reader, d trove.Datastore, ref, number string) (trove.DatastoreVersion, error) {
	all, err := r.DatastoreVersions(ctx, d.ID)
	if err != nil {
		return trove.DatastoreVersion{}, fmt.Errorf("list the versions of %s: %w", d.Name, err)
	}
	all = slices.DeleteFunc(all, func(v trove.DatastoreVersion) bool {
		return v.ID != ref && v.Name != ref || number != "" && v.Version != number
	})
	switch len(all) {
	case 0:
		return trove.DatastoreVersion{}, trove.Errorf(trove.KindNotFound, "Datastore %s has no version %s %s.", d.Name, ref, number)
	case 1:
		return all[0], nil
	}
	return trove.DatastoreVersion{}, trove.Errorf(trove.KindConflict, "Datastore %s has %d versions %s: name the number too.", d.Name, len(all), ref)
}

// VersionSpec is what a datastore version shall be.
type VersionSpec struct {
	Datastore, Name, Manager, Image string
	Packages                        []string
	Active                          bool
	Number                          string // "": the name
}

// id is that of a new version: the one that an image of it gets.
func (s VersionSpec) id(datastore string) string {
	if s.Number == s.Name {
		return derivedID("version", datastore, s.Name)
	}
	return derivedID("version", datastore, s.Name, s.Number)
}

// UpdateVersion makes a version of a datastore, which has to be there, or changes it. What the control plane must know of its engine comes from the image,
// or from another version with the same manager.
func (a *Admin) UpdateVersion(ctx context.Context, s VersionSpec) (made bool, err error) {
	if s.Number == "" {
		s.Number = s.Name
	}
	err = a.store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		d, err := heldDatastore(ctx, tx, s.Datastore)
		if err != nil {
			return trove.Wrap(trove.KindNotFound, err, "There is no datastore %s: make it with trove manage datastore update.", s.Datastore)
		}
		all, err := tx.DatastoreVersions(ctx, "")
		if err != nil {
			return err
		}
		v := trove.DatastoreVersion{ID: s.id(d.Name), DatastoreID: d.ID}
		n := slices.IndexFunc(all, func(v trove.DatastoreVersion) bool {
			return v.DatastoreID == d.ID && v.Name == s.Name && v.Version == s.Number
		})
		if made = n < 0; !made {
			v = all[n]
		}
		caps, err := a.capabilities(s, all)
		if err != nil {
			return err
		}
		v.Name, v.Version, v.Manager, v.ImageID, v.Packages, v.Active, v.Capabilities = s.Name, s.Number, s.Manager, s.Image, s.Packages, s.Active, caps
		return tx.PutDatastoreVersion(ctx, v)
	})
	if err != nil {
		return false, fmt.Errorf("update version %s of datastore %s: %w", s.Name, s.Datastore, err)
	}
	return made, nil
}

func (a *Admin) capabilities(s VersionSpec, known []trove.DatastoreVersion) (trove.Capabilities, error) {
	manifests, err := imagelayout.List(ImagesDir(a.cfg))
	if err != nil {
		return trove.Capabilities{}, err
	}
	n := slices.IndexFunc(manifests, func(m imagelayout.Manifest) bool { return m.ID == s.Image })
	switch {
	case n >= 0 && manifests[n].Manager != s.Manager:
		return trove.Capabilities{}, trove.Errorf(trove.KindBadRequest, "The image is one of the manager %s and not of %s.", manifests[n].Manager, s.Manager)
	case n >= 0:
		return manifests[n].Capabilities, nil
	}
	if n := slices.IndexFunc(known, func(v trove.DatastoreVersion) bool { return v.Manager == s.Manager && v.Capabilities.Port > 0 }); n >= 0 {
		return known[n].Capabilities, nil
	}
	return trove.Capabilities{}, trove.Errorf(trove.KindNotFound,
		"Nothing is known of the manager %s: there is no image %s in %s, and no version with this manager.", s.Manager, s.Image, ImagesDir(a.cfg))
}

// Association is what a datastore version can be restricted to.
type Association string

// The associations, in Trove's words.
const (
	FlavorAssociation     Association = "flavor"
	VolumeTypeAssociation Association = "volume_type"
)

// Associate adds and removes flavors or volume types that a version allows, and returns those that it allows then; none: all.
func (a *Admin) Associate(ctx context.Context, kind Association, datastore, version, number string, add, remove []string) (now []string, err error) {
	err = a.store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		d, err := heldDatastore(ctx, tx, datastore)
		if err != nil {
			return err
		}
		v, err := findVersion(ctx, tx, d, version, number)
		if err != nil {
			return err
		}
		list := &v.FlavorIDs
		if kind == VolumeTypeAssociation {
			list = &v.VolumeTypes
		}
		now = slices.DeleteFunc(slices.Clone(*list), func(id string) bool { return slices.Contains(remove, id) })
		for _, id := range add {
			if !slices.Contains(now, id) {
				now = append(now, id)
			}
		}
		*list = now
		if len(add)+len(remove) == 0 {
			return nil
		}
		return tx.PutDatastoreVersion(ctx, v)
	})
	if err != nil {
		return nil, fmt.Errorf("change the %ss of version %s: %w", kind, version, err)
	}
	return now, nil
}

// SetQuota sets how much of a resource a project may use; -1 is unlimited.
func (a *Admin) SetQuota(ctx context.Context, project, resource string, limit int) error {
	if limit < -1 {
		return trove.Errorf(trove.KindBadRequest, "A limit is -1 for none, or at least 0.")
	}
	quotas, err := a.store.Quotas(ctx, project)
	if err != nil {
		return fmt.Errorf("read the quotas: %w", err)
	}
	names := make([]string, 0, len(quotas))
	for _, q := range quotas {
		names = append(names, q.Resource)
	}
	if !slices.Contains(names, resource) {
		return trove.Errorf(trove.KindNotFound, "There is no quota of %s; there are %v.", resource, names)
	}
	err = a.store.InTx(ctx, func(ctx context.Context, tx store.Tx) error { return tx.SetQuota(ctx, project, resource, limit) })
	if err != nil {
		return fmt.Errorf("set the quota: %w", err)
	}
	return nil
}

// Import takes over what a Python Trove has, or with dry says what it would take.
func (a *Admin) Import(ctx context.Context, from *troveimport.Source, dry bool) ([]troveimport.Item, error) {
	o := troveimport.Options{Now: clock.System{}.Now(), Dry: dry, Flavors: a.cfg.Local.TroveFlavors(), Rules: rulesOf}
	switch {
	case a.cfg.Cloud == config.CloudOpenStack:
		o.Flavors = nil // those of Nova, whose ids say nothing of ours
	case len(o.Flavors) == 0:
		o.Flavors = local.DefaultFlavors()
	}
	return troveimport.Import(ctx, from, a.store, o)
}

// CheckResult is how a check before an upgrade ended.
type CheckResult struct {
	Check  string
	Level  CheckLevel
	Detail string
}

// CheckLevel is how bad it is; as a number it is the exit code of trove-status.
type CheckLevel int

// The levels.
const (
	CheckSuccess CheckLevel = iota
	CheckWarning
	CheckFailure
)

// String returns trove-status' word.
func (l CheckLevel) String() string { return [...]string{"Success", "Warning", "Failure"}[l] }

// UpgradeCheck looks whether the service can be upgraded now, as trove-status upgrade check does. It changes nothing.
func UpgradeCheck(ctx context.Context, cfg config.Config) ([]CheckResult, error) {
	found, err := StoreSchema(ctx, cfg)
	if err != nil {
		return nil, err
	}
	at, known := found.At, found.Known
	schema := CheckResult{Check: "Store schema", Detail: fmt.Sprintf("The store has schema %d, this program makes %d.", at, known)}
	switch {
	case at == 0:
		schema.Level, schema.Detail = CheckFailure, "There is no store yet."
	case at > known:
		schema.Level, schema.Detail = CheckFailure, schema.Detail+" It was written by a newer release."
	case at < known:
		schema.Level, schema.Detail = CheckWarning, schema.Detail+" It is brought up to date when the service starts, or by trove manage db sync."
	}
	all := []CheckResult{schema, checkPolicy(cfg)}
	if at != known {
		return all, nil // opening it would change it
	}
	a, err := OpenAdmin(ctx, cfg)
	if err != nil {
		return nil, err
	}
	tasks, err := a.checkTasks(ctx)
	clocks, cerr := a.checkClocks(ctx)
	return append(all, tasks, clocks), errors.Join(err, cerr, a.Close())
}

// checkTasks warns of instances that something is done to.
func (a *Admin) checkTasks(ctx context.Context) (CheckResult, error) {
	r := CheckResult{Check: "Instances with running tasks", Detail: "There are none."}
	var busy []string
	for marker := ""; ; {
		page, err := a.store.Instances(ctx, store.InstanceFilter{Marker: marker, Limit: 500})
		if err != nil {
			return r, fmt.Errorf("list the instances: %w", err)
		}
		for n := range page {
			if page[n].Task != trove.TaskNone {
				busy = append(busy, page[n].ID)
			}
			marker = page[n].ID
		}
		if len(page) < 500 {
			break
		}
	}
	if len(busy) > 0 {
		r.Level, r.Detail = CheckWarning, fmt.Sprintf("%d instances have a task: %v. Operations go on after the upgrade.", len(busy), busy[:min(5, len(busy))])
	}
	return r, nil
}
