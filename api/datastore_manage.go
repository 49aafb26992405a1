package api

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/store"
)

// forget makes the next look at the datastore versions a fresh one.
func (c *versionCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byID, c.loaded = nil, time.Time{}
}

// textsOrOne returns a list as Trove shows it: an empty one has one empty text.
func textsOrOne(list []string) []string {
	if len(list) == 0 {
		return []string{""}
	}
	return list
}

func viewManagedVersion(v *trove.DatastoreVersion, d trove.Datastore) wire.ManagedVersion {
	return wire.ManagedVersion{
		ID: v.ID, Name: v.Name, Version: v.Version, DatastoreID: v.DatastoreID, DatastoreName: v.DatastoreName, DatastoreManager: v.Manager,
		Image: wire.Nullable(v.ImageID), ImageTags: textsOrOne(v.ImageTags), Packages: textsOrOne(v.Packages), Active: v.Active,
		Default: d.DefaultVersionID == v.ID, RequireTLS: v.RequireTLS,
	}
}

func (s *server) listManagedVersions(ctx context.Context, _ *call) (any, error) {
	stores, err := s.cfg.Store.Datastores(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the datastores: %w", err)
	}
	byID := map[string]trove.Datastore{}
	for _, d := range stores {
		byID[d.ID] = d
	}
	all, err := s.cfg.Store.DatastoreVersions(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("list the datastore versions: %w", err)
	}
	out := wire.ManagedVersionList{Versions: []wire.ManagedVersion{}}
	for n := range all {
		out.Versions = append(out.Versions, viewManagedVersion(&all[n], byID[all[n].DatastoreID]))
	}
	return &out, nil
}

func (s *server) showManagedVersion(ctx context.Context, c *call) (any, error) {
	v, err := s.pathVersion(ctx, c)
	if err != nil {
		return nil, err
	}
	d, err := s.cfg.Store.Datastore(ctx, v.DatastoreID)
	if err != nil {
		return nil, fmt.Errorf("read the datastore: %w", err)
	}
	return &wire.ManagedVersionBody{Version: viewManagedVersion(&v, d)}, nil
}

// fillVersion writes what a request says into a version; what it leaves out stays.
func (s *server) fillVersion(v *trove.DatastoreVersion, want object) error {
	for key, field := range map[string]*string{"name": &v.Name, "image": &v.ImageID, "datastore_manager": &v.Manager} {
		if want.has(key) {
			*field = want.str(key)
		}
	}
	if want.has("image_tags") {
		v.ImageTags = want.strs("image_tags")
	}
	if want.has("packages") {
		v.Packages = want.strs("packages")
	}
	if active := want.boolPtr("active"); active != nil {
		v.Active = *active
	}
	if required := want.boolPtr("require_tls"); required != nil {
		v.RequireTLS = *required
	}
	if want.has("datastore_manager") {
		e, known := s.cfg.Engines[v.Manager]
		if !known {
			return bad("There is no engine driver '%s'. There are %s.", v.Manager, pythonList(slices.Sorted(maps.Keys(s.cfg.Engines))))
		}
		v.Capabilities = e.Capabilities
	}
	if v.ImageID == "" && len(v.ImageTags) > 0 {
		return bad("Image must be specified: images are found by their ids here, not by tags.")
	}
	if v.ImageID == "" {
		return bad("Image must be specified.")
	}
	return nil
}

// checkImage looks whether the image that a request names is there.
func (s *server) checkImage(ctx context.Context, want object) error {
	if !want.has("image") {
		return nil
	}
	id := want.str("image")
	if err := s.cfg.Catalog.ImageExists(ctx, id); err != nil {
		return asBadRequest(fmt.Errorf("look for the image: %w", err), "Image %s cannot be found.", id)
	}
	return nil
}

// checkUnique refuses a version whose name and number another one of the datastore has.
func checkUnique(ctx context.Context, tx store.Tx, v *trove.DatastoreVersion) error {
	all, err := tx.DatastoreVersions(ctx, v.DatastoreID)
	if err != nil {
		return err
	}
	for _, other := range all {
		if other.ID != v.ID && other.Name == v.Name && other.Version == v.Version {
			return bad("The datastore version '%s(%s)' already exists.", v.Name, v.Version)
		}
	}
	return nil
}

// setDefault makes a version the default of its datastore, or none of it; nil leaves it.
func setDefault(ctx context.Context, tx store.Tx, d trove.Datastore, version string, want *bool) error {
	switch {
	case want == nil || *want == (d.DefaultVersionID == version):
		return nil
	case *want:
		d.DefaultVersionID = version
	default:
		d.DefaultVersionID = ""
	}
	return tx.PutDatastore(ctx, d)
}

// ensureDatastore returns the datastore of a name, held; one that is not there is made.
func ensureDatastore(ctx context.Context, tx store.Tx, name string) (trove.Datastore, error) {
	d, err := tx.Datastore(ctx, name)
	if err == nil {
		if err = tx.HoldDatastore(ctx, d.ID); err == nil {
			return tx.Datastore(ctx, d.ID) // as it is now that nobody else changes it
		}
	}
	if !trove.IsNotFound(err) {
		return d, err
	}
	d = trove.Datastore{ID: trove.NewID(), Name: name}
	return d, tx.PutDatastore(ctx, d)
}

// holdVersion keeps the version of what a transaction makes from being deleted at the same time.
func holdVersion(ctx context.Context, tx store.Tx, id string) error {
	if err := tx.HoldDatastoreVersion(ctx, id); err != nil {
		return asBadRequest(err, "Datastore version '%s' cannot be found.", id)
	}
	return nil
}

func (s *server) createManagedVersion(ctx context.Context, c *call) (any, error) {
	body := c.body.obj("version")
	v := trove.DatastoreVersion{ID: trove.NewID(), Version: body.str("version")}
	if err := s.fillVersion(&v, body); err != nil {
		return nil, err
	}
	if err := s.checkImage(ctx, body); err != nil {
		return nil, err
	}
	if v.Version == "" {
		v.Version = v.Name
	}
	c.track.makesThing("version", v.ID)
	if err := s.willAnswer(ctx, c, nil); err != nil {
		return nil, err
	}
	err := s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		d, err := ensureDatastore(ctx, tx, body.str("datastore_name"))
		if err != nil {
			return err
		}
		v.DatastoreID = d.ID
		if err := checkUnique(ctx, tx, &v); err != nil {
			return err
		}
		if err := tx.PutDatastoreVersion(ctx, v); err != nil {
			return err
		}
		if err := tx.ReplaceParameters(ctx, v.ID, s.cfg.Engines[v.Manager].Rules(v.Version)); err != nil {
			return err
		}
		return setDefault(ctx, tx, d, v.ID, body.boolPtr("default"))
	})
	if err != nil {
		return nil, fmt.Errorf("create a datastore version: %w", err)
	}
	s.versions.forget()
	return nil, nil
}

func (s *server) editManagedVersion(ctx context.Context, c *call) (any, error) {
	found, err := s.pathVersion(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := s.checkImage(ctx, c.body); err != nil {
		return nil, err
	}
	err = s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		if err := tx.HoldDatastore(ctx, found.DatastoreID); err != nil {
			return err
		}
		v, err := tx.DatastoreVersion(ctx, found.ID)
		if err != nil {
			return asBadRequest(err, "Datastore version '%s' cannot be found.", found.ID)
		}
		manager := v.Manager
		if err := s.fillVersion(&v, c.body); err != nil {
			return err
		}
		if err := checkUnique(ctx, tx, &v); err != nil {
			return err
		}
		if err := tx.PutDatastoreVersion(ctx, v); err != nil {
			return err
		}
		if v.Manager != manager { // another driver has other parameters
			if err := tx.ReplaceParameters(ctx, v.ID, s.cfg.Engines[v.Manager].Rules(v.Version)); err != nil {
				return err
			}
		}
		d, err := tx.Datastore(ctx, v.DatastoreID)
		if err != nil {
			return err
		}
		return setDefault(ctx, tx, d, v.ID, c.body.boolPtr("default"))
	})
	if err != nil {
		return nil, fmt.Errorf("change a datastore version: %w", err)
	}
	s.versions.forget()
	return nil, nil
}

func (s *server) deleteManagedVersion(ctx context.Context, c *call) (any, error) {
	v, err := s.pathVersion(ctx, c)
	if err != nil {
		return nil, err
	}
	err = s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		if err := tx.HoldDatastore(ctx, v.DatastoreID); err != nil {
			return err
		}
		if err := tx.DeleteDatastoreVersion(ctx, v.ID); err != nil { // before it is looked for: who uses it meanwhile holds it
			return err
		}
		use, err := tx.VersionUse(ctx, v.ID)
		if err != nil {
			return err
		}
		if use != "" {
			return bad("Datastore version is in use by %s.", use)
		}
		d, err := tx.Datastore(ctx, v.DatastoreID)
		if err != nil {
			return err
		}
		return setDefault(ctx, tx, d, v.ID, new(false))
	})
	if err != nil {
		return nil, fmt.Errorf("delete a datastore version: %w", err)
	}
	s.versions.forget()
	return nil, nil
}
