package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	trove "github.com/trove-dbaas/trove"
)

func (r reader) Datastores(ctx context.Context) ([]trove.Datastore, error) {
	var found []trove.Datastore
	err := list(ctx, r.run, func(rows *sql.Rows) error {
		var d trove.Datastore
		err := rows.Scan(&d.ID, &d.Name, &d.DefaultVersionID)
		found = append(found, d)
		return err
	}, `SELECT id, name, default_version_id FROM datastore ORDER BY name`)
	if err != nil {
		return nil, fmt.Errorf("list datastores: %w", err)
	}
	return found, nil
}

func (r reader) Datastore(ctx context.Context, idOrName string) (trove.Datastore, error) {
	var d trove.Datastore
	// One whose id is asked for comes before one that has it as its name.
	err := r.run.row(ctx, []any{&d.ID, &d.Name, &d.DefaultVersionID}, `SELECT id, name, default_version_id FROM datastore WHERE id=? OR name=?
ORDER BY CASE WHEN id=? THEN 0 ELSE 1 END LIMIT 1`, idOrName, idOrName, idOrName)
	if errors.Is(err, sql.ErrNoRows) {
		return d, trove.Errorf(trove.KindNotFound, "Datastore '%s' cannot be found.", idOrName)
	}
	if err != nil {
		return d, fmt.Errorf("read datastore %s: %w", idOrName, err)
	}
	return d, nil
}

const selectVersion = `SELECT v.id, v.datastore_id, COALESCE(d.name, ''), v.name, v.version, v.manager, v.image_id, v.active, v.packages, v.capabilities,
v.flavor_ids, v.volume_types, v.image_tags, v.require_tls FROM datastore_version v LEFT JOIN datastore d ON d.id = v.datastore_id `

func (r reader) DatastoreVersions(ctx context.Context, datastoreID string) ([]trove.DatastoreVersion, error) {
	if datastoreID == "" {
		return r.versions(ctx, selectVersion+`ORDER BY d.name, v.name, v.id`)
	}
	return r.versions(ctx, selectVersion+`WHERE v.datastore_id=? ORDER BY v.name, v.id`, datastoreID)
}

func (r reader) DatastoreVersion(ctx context.Context, id string) (trove.DatastoreVersion, error) {
	found, err := r.versions(ctx, selectVersion+`WHERE v.id=?`, id)
	if err != nil {
		return trove.DatastoreVersion{}, err
	}
	if len(found) == 0 {
		return trove.DatastoreVersion{}, trove.Errorf(trove.KindNotFound, "Datastore version '%s' cannot be found.", id)
	}
	return found[0], nil
}

func (r reader) versions(ctx context.Context, query string, args ...any) ([]trove.DatastoreVersion, error) {
	var found []trove.DatastoreVersion
	err := list(ctx, r.run, func(rows *sql.Rows) error {
		var v trove.DatastoreVersion
		var packages, capabilities, flavors, types, tags []byte
		err := rows.Scan(&v.ID, &v.DatastoreID, &v.DatastoreName, &v.Name, &v.Version, &v.Manager, &v.ImageID, &v.Active,
			&packages, &capabilities, &flavors, &types, &tags, &v.RequireTLS)
		if err != nil {
			return err
		}
		err = errors.Join(json.Unmarshal(packages, &v.Packages), json.Unmarshal(capabilities, &v.Capabilities),
			json.Unmarshal(flavors, &v.FlavorIDs), json.Unmarshal(types, &v.VolumeTypes))
		if len(tags) > 0 {
			err = errors.Join(err, json.Unmarshal(tags, &v.ImageTags))
		}
		found = append(found, v)
		return err
	}, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read datastore versions: %w", err)
	}
	return found, nil
}

func (t *tx) PutDatastore(ctx context.Context, d trove.Datastore) error {
	err := put(ctx, t.run, `UPDATE datastore SET name=?, default_version_id=? WHERE id=?`,
		`INSERT INTO datastore (name, default_version_id, id) VALUES (?,?,?)`, d.Name, d.DefaultVersionID, d.ID)
	if err != nil {
		return fmt.Errorf("put datastore %s: %w", d.ID, err)
	}
	return nil
}

func (t *tx) PutDatastoreVersion(ctx context.Context, v trove.DatastoreVersion) error {
	packages, err1 := encoded(v.Packages, false)
	capabilities, err2 := encoded(v.Capabilities, false)
	flavors, err3 := encoded(v.FlavorIDs, false)
	types, err4 := encoded(v.VolumeTypes, false)
	tags, err5 := encoded(v.ImageTags, len(v.ImageTags) == 0)
	err := errors.Join(err1, err2, err3, err4, err5)
	if err == nil {
		err = put(ctx, t.run, `UPDATE datastore_version SET datastore_id=?, name=?, version=?, manager=?, image_id=?, active=?, packages=?, capabilities=?,
flavor_ids=?, volume_types=?, image_tags=?, require_tls=? WHERE id=?`, `INSERT INTO datastore_version (datastore_id, name, version, manager, image_id, active, packages,
capabilities, flavor_ids, volume_types, image_tags, require_tls, id) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)`,
			v.DatastoreID, v.Name, v.Version, v.Manager, v.ImageID, flag(v.Active), packages, capabilities, flavors, types, tags,
			flag(v.RequireTLS), v.ID)
	}
	if err != nil {
		return fmt.Errorf("put datastore version %s: %w", v.ID, err)
	}
	return nil
}

func (t *tx) DeleteDatastore(ctx context.Context, id string) error {
	if _, err := t.run.exec(ctx, `DELETE FROM datastore WHERE id=?`, id); err != nil {
		return fmt.Errorf("delete datastore %s: %w", id, err)
	}
	return nil
}

func (t *tx) DeleteDatastoreVersion(ctx context.Context, id string) error {
	_, err := t.run.exec(ctx, `DELETE FROM datastore_parameter WHERE datastore_version_id=?`, id)
	if err == nil {
		_, err = t.run.exec(ctx, `DELETE FROM datastore_version WHERE id=?`, id)
	}
	if err != nil {
		return fmt.Errorf("delete datastore version %s: %w", id, err)
	}
	return nil
}
