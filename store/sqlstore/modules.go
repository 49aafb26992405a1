package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

const (
	selectModule  = `SELECT contents, ` + moduleColumns
	selectModules = `SELECT '', ` + moduleColumns // contents are large
	moduleColumns = `id, project_id, name, type, description, md5, datastore_id, datastore_version_id, auto_apply, visible, live_update, priority_apply,
apply_order, is_admin, created, updated, version FROM module WHERE deleted=0`
)

// moduleRow is a module with the number of its writes.
type moduleRow struct {
	trove.Module
	version int64
}

func (r reader) modules(ctx context.Context, query string, args ...any) (found []moduleRow, err error) {
	err = list(ctx, r.run, func(rows *sql.Rows) error {
		var m moduleRow
		var created, updated int64
		err := rows.Scan(&m.Contents, &m.ID, &m.ProjectID, &m.Name, &m.Type, &m.Description, &m.MD5, &m.DatastoreID, &m.DatastoreVersionID, &m.AutoApply,
			&m.Visible, &m.LiveUpdate, &m.PriorityApply, &m.ApplyOrder, &m.IsAdmin, &created, &updated, &m.version)
		m.Created, m.Updated = fromMicros(created), fromMicros(updated)
		found = append(found, m)
		return err
	}, query, args...)
	return found, err
}

func (r reader) module(ctx context.Context, id string) (moduleRow, error) {
	found, err := r.modules(ctx, selectModule+` AND id=?`, id)
	if err != nil {
		return moduleRow{}, fmt.Errorf("read module %s: %w", id, err)
	}
	if len(found) == 0 {
		return moduleRow{}, trove.Errorf(trove.KindNotFound, "Module with ID %s could not be found.", id)
	}
	return found[0], nil
}

func (r reader) Module(ctx context.Context, id string) (trove.Module, error) {
	m, err := r.module(ctx, id)
	return m.Module, err
}

func (r reader) Modules(ctx context.Context, f store.ModuleFilter) ([]trove.Module, error) {
	var q strings.Builder
	q.WriteString(` AND id > ?`)
	args := []any{f.Marker}
	if f.ProjectID != "" {
		q.WriteString(` AND project_id IN (?, '')`)
		args = append(args, f.ProjectID)
	}
	if f.Visible {
		q.WriteString(` AND visible=1`)
	}
	if f.Name != "" {
		q.WriteString(` AND name=?`)
		args = append(args, f.Name)
	}
	if f.DatastoreID != nil {
		q.WriteString(` AND datastore_id=?`)
		args = append(args, *f.DatastoreID)
	}
	limit := f.Limit
	if limit <= 0 {
		limit = math.MaxInt32
	}
	q.WriteString(` ORDER BY id LIMIT ?`)
	rows, err := r.modules(ctx, selectModules+q.String(), append(args, limit)...)
	if err != nil {
		return nil, fmt.Errorf("list modules: %w", err)
	}
	found := make([]trove.Module, len(rows))
	for n := range rows {
		found[n] = rows[n].Module
	}
	return found, nil
}

// moduleArgs returns the values of the columns from project_id to updated.
func moduleArgs(m *trove.Module) []any {
	return []any{
		m.ProjectID, m.Name, m.Type, m.Description, m.Contents, m.MD5, m.DatastoreID, m.DatastoreVersionID, flag(m.AutoApply), flag(m.Visible),
		flag(m.LiveUpdate), flag(m.PriorityApply), m.ApplyOrder, flag(m.IsAdmin), micros(m.Updated),
	}
}

func (t *tx) InsertModule(ctx context.Context, m trove.Module) error {
	_, err := t.run.exec(ctx, `INSERT INTO module (project_id, name, type, description, contents, md5, datastore_id, datastore_version_id, auto_apply, visible,
live_update, priority_apply, apply_order, is_admin, updated, id, created, version) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,1)`,
		append(moduleArgs(&m), m.ID, micros(m.Created))...)
	if err != nil {
		return fmt.Errorf("insert module %s: %w", m.ID, err)
	}
	return nil
}

func (t *tx) UpdateModule(ctx context.Context, id string, now time.Time, change func(*trove.Module) error) error {
	row, err := t.module(ctx, id)
	if err != nil {
		return err
	}
	m := row.Module
	if err := change(&m); err != nil {
		return err
	}
	m.Updated = now
	err = swap(ctx, t.run, `UPDATE module SET project_id=?, name=?, type=?, description=?, contents=?, md5=?, datastore_id=?, datastore_version_id=?,
auto_apply=?, visible=?, live_update=?, priority_apply=?, apply_order=?, is_admin=?, updated=?, version=version+1 WHERE id=? AND version=?`,
		append(moduleArgs(&m), id, row.version)...)
	if err != nil {
		return fmt.Errorf("update module %s: %w", id, err)
	}
	return nil
}

func (t *tx) DeleteModule(ctx context.Context, id string, now time.Time) error {
	_, err := t.run.exec(ctx, `UPDATE module SET deleted=1, living=NULL, deleted_at=?, updated=?, contents='', version=version+1 WHERE id=? AND deleted=0`,
		micros(now), micros(now), id)
	if err == nil {
		_, err = t.run.exec(ctx, `DELETE FROM instance_module WHERE module_id=?`, id)
	}
	if err != nil {
		return fmt.Errorf("delete module %s: %w", id, err)
	}
	return nil
}

func (r reader) InstanceModules(ctx context.Context, instance, module string) (found []trove.InstanceModule, err error) {
	query, args := `SELECT l.instance_id, l.module_id, l.md5, l.created, l.updated FROM instance_module l JOIN instance i ON i.id=l.instance_id AND i.deleted=0
JOIN module m ON m.id=l.module_id AND m.deleted=0 WHERE 1=1`, []any(nil)
	if instance != "" {
		query, args = query+` AND l.instance_id=?`, append(args, instance)
	}
	if module != "" {
		query, args = query+` AND l.module_id=?`, append(args, module)
	}
	err = list(ctx, r.run, func(rows *sql.Rows) error {
		var m trove.InstanceModule
		var created, updated int64
		err := rows.Scan(&m.InstanceID, &m.ModuleID, &m.MD5, &created, &updated)
		m.Created, m.Updated = fromMicros(created), fromMicros(updated)
		found = append(found, m)
		return err
	}, query+` ORDER BY l.instance_id, l.module_id`, args...)
	if err != nil {
		return nil, fmt.Errorf("list the modules of instances: %w", err)
	}
	return found, nil
}

func (t *tx) PutInstanceModule(ctx context.Context, m trove.InstanceModule) error {
	err := put(ctx, t.run, `UPDATE instance_module SET md5=?, created=?, updated=? WHERE instance_id=? AND module_id=?`,
		`INSERT INTO instance_module (md5, created, updated, instance_id, module_id) VALUES (?,?,?,?,?)`,
		m.MD5, micros(m.Created), micros(m.Updated), m.InstanceID, m.ModuleID)
	if err != nil {
		return fmt.Errorf("write that instance %s has module %s: %w", m.InstanceID, m.ModuleID, err)
	}
	return nil
}

func (t *tx) DeleteInstanceModules(ctx context.Context, instance, module string) error {
	query, args := `DELETE FROM instance_module WHERE instance_id=?`, []any{instance}
	if module != "" {
		query, args = query+` AND module_id=?`, append(args, module)
	}
	if _, err := t.run.exec(ctx, query, args...); err != nil {
		return fmt.Errorf("forget modules of instance %s: %w", instance, err)
	}
	return nil
}
