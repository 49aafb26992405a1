package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

const selectConfiguration = `SELECT id, project_id, name, description, datastore_version_id, parameters, created, updated, version FROM configuration `

func (r reader) configurations(ctx context.Context, where string, args ...any) ([]trove.Configuration, error) {
	var found []trove.Configuration
	err := list(ctx, r.run, func(rows *sql.Rows) error {
		var c trove.Configuration
		var values []byte
		var created, updated int64
		err := rows.Scan(&c.ID, &c.ProjectID, &c.Name, &c.Description, &c.DatastoreVersionID, &values, &created, &updated, &c.Version)
		if err != nil {
			return err
		}
		c.Created, c.Updated = fromMicros(created), fromMicros(updated)
		err = json.Unmarshal(values, &c.Values)
		found = append(found, c)
		return err
	}, selectConfiguration+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read configuration groups: %w", err)
	}
	return found, nil
}

func (r reader) Configuration(ctx context.Context, id string) (trove.Configuration, error) {
	found, err := r.configurations(ctx, `WHERE id=?`, id)
	if err != nil {
		return trove.Configuration{}, err
	}
	if len(found) == 0 {
		return trove.Configuration{}, trove.Errorf(trove.KindNotFound, "Configuration group with ID %s could not be found.", id)
	}
	return found[0], nil
}

// unlimited returns the number of rows that a limit stands for.
func unlimited(limit int) int {
	if limit <= 0 {
		return math.MaxInt32
	}
	return limit
}

func (r reader) Configurations(ctx context.Context, f store.ConfigurationFilter) ([]trove.Configuration, error) {
	if f.ProjectID == "" {
		return r.configurations(ctx, `WHERE id > ? ORDER BY id LIMIT ?`, f.Marker, unlimited(f.Limit))
	}
	return r.configurations(ctx, `WHERE project_id=? AND id > ? ORDER BY id LIMIT ?`, f.ProjectID, f.Marker, unlimited(f.Limit))
}

func (r reader) ConfiguredInstances(ctx context.Context, configuration string, f store.InstanceFilter) ([]trove.Instance, error) {
	where, args := `WHERE i.configuration_id = ? AND i.deleted = 0 AND i.id > ?`, []any{configuration, f.Marker}
	if f.ProjectID != "" {
		where, args = where+` AND i.project_id = ?`, append(args, f.ProjectID)
	}
	found, err := r.instances(ctx, where+` ORDER BY i.id LIMIT ?`, 0, append(args, unlimited(f.Limit))...)
	if err != nil {
		return nil, fmt.Errorf("list the instances of configuration group %s: %w", configuration, err)
	}
	return found, nil
}

func (r reader) CountConfigured(ctx context.Context, configuration string) (int, error) {
	n := 0
	err := r.run.row(ctx, []any{&n}, `SELECT COUNT(*) FROM instance WHERE configuration_id=? AND deleted=0`, configuration)
	if err != nil {
		return 0, fmt.Errorf("count the instances of configuration group %s: %w", configuration, err)
	}
	return n, nil
}

func (r reader) InstanceConfiguration(ctx context.Context, instance string) (trove.InstanceConfiguration, error) {
	c := trove.InstanceConfiguration{InstanceID: instance}
	var due int64
	err := r.run.row(ctx, []any{&c.Revision, &c.Applied, &due, &c.Restart},
		`SELECT revision, applied, due, restart FROM instance_configuration WHERE instance_id=?`, instance)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return c, fmt.Errorf("read the state of the configuration of instance %s: %w", instance, err)
	}
	c.Due = fromMicros(due)
	return c, nil
}

func (r reader) LateConfigurations(ctx context.Context, now time.Time, limit int) ([]string, error) {
	var found []string
	err := list(ctx, r.run, func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		found = append(found, id)
		return err
	}, `SELECT instance_id FROM instance_configuration WHERE behind=1 AND due <= ? ORDER BY due, instance_id LIMIT ?`, micros(now), unlimited(limit))
	if err != nil {
		return nil, fmt.Errorf("list the instances whose configuration is late: %w", err)
	}
	return found, nil
}

func (t *tx) InsertConfiguration(ctx context.Context, c trove.Configuration) error {
	values, err := values(c)
	if err == nil {
		_, err = t.run.exec(ctx, `INSERT INTO configuration (id, project_id, name, description, datastore_version_id, parameters, created, updated, version)
VALUES (?,?,?,?,?,?,?,?,1)`, c.ID, c.ProjectID, c.Name, c.Description, c.DatastoreVersionID, values, micros(c.Created), micros(c.Updated))
	}
	if err != nil {
		return fmt.Errorf("insert configuration group %s: %w", c.ID, err)
	}
	return nil
}

func values(c trove.Configuration) (string, error) {
	if c.Values == nil {
		c.Values = map[string]json.RawMessage{}
	}
	return encoded(c.Values, false)
}

func (t *tx) UpdateConfiguration(ctx context.Context, c trove.Configuration, now time.Time) error {
	values, err := values(c)
	n := int64(0)
	if err == nil {
		n, err = t.run.exec(ctx, `UPDATE configuration SET name=?, description=?, parameters=?, updated=?, version=version+1 WHERE id=? AND version=?`,
			c.Name, c.Description, values, micros(now), c.ID, c.Version)
	}
	if err != nil {
		return fmt.Errorf("update configuration group %s: %w", c.ID, err)
	}
	if n == 0 {
		return trove.Errorf(trove.KindConflict, "Configuration group %s was changed by another request just now. Try again.", c.ID)
	}
	return nil
}

func (t *tx) DeleteConfiguration(ctx context.Context, id string) error {
	if _, err := t.run.exec(ctx, `DELETE FROM configuration WHERE id=?`, id); err != nil {
		return fmt.Errorf("delete configuration group %s: %w", id, err)
	}
	return nil
}

func (t *tx) BeginConfiguration(ctx context.Context, instance string, now, due time.Time) (int64, error) {
	n, err := t.run.exec(ctx, `UPDATE instance_configuration SET revision=CASE WHEN revision >= ? THEN revision+1 ELSE ? END, behind=1, due=?
WHERE instance_id=?`, micros(now), micros(now), micros(due), instance)
	if err == nil && n == 0 {
		_, err = t.run.exec(ctx, `INSERT INTO instance_configuration (instance_id, revision, applied, behind, due, restart) VALUES (?,?,0,1,?,0)`,
			instance, micros(now), micros(due))
	}
	var revision int64
	if err == nil {
		err = t.run.row(ctx, []any{&revision}, `SELECT revision FROM instance_configuration WHERE instance_id=?`, instance)
	}
	if err != nil {
		return 0, fmt.Errorf("begin to configure instance %s: %w", instance, err)
	}
	return revision, nil
}

func (t *tx) EndConfiguration(ctx context.Context, instance string, revision int64) error {
	_, err := t.run.exec(ctx, `UPDATE instance_configuration SET applied=?, behind=0 WHERE instance_id=? AND revision=?`, revision, instance, revision)
	if err != nil {
		return fmt.Errorf("end to configure instance %s: %w", instance, err)
	}
	return nil
}

func (t *tx) SetConfigurationRestart(ctx context.Context, instance string, restart bool) error {
	_, err := t.run.exec(ctx, `UPDATE instance_configuration SET restart=? WHERE instance_id=?`, flag(restart), instance)
	if err != nil {
		return fmt.Errorf("note whether instance %s has to be restarted: %w", instance, err)
	}
	return nil
}
