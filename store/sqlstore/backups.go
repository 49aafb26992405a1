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

const selectBackup = `SELECT id, project_id, instance_id, name, description, parent_id, state, location, size, checksum, datastore_version_id,
storage_driver, created, updated, version FROM backup WHERE deleted=0`

// backupRow is a backup with the number of its writes.
type backupRow struct {
	trove.Backup
	version int64
}

func (r reader) backups(ctx context.Context, and string, args ...any) (found []backupRow, err error) {
	err = list(ctx, r.run, func(rows *sql.Rows) error {
		var b backupRow
		var created, updated int64
		err := rows.Scan(&b.ID, &b.ProjectID, &b.InstanceID, &b.Name, &b.Description, &b.ParentID, (*string)(&b.State), &b.Location, &b.Size, &b.Checksum,
			&b.DatastoreVersionID, &b.StorageDriver, &created, &updated, &b.version)
		b.Created, b.Updated = fromMicros(created), fromMicros(updated)
		found = append(found, b)
		return err
	}, selectBackup+and, args...)
	return found, err
}

func (r reader) backup(ctx context.Context, id string) (backupRow, error) {
	found, err := r.backups(ctx, ` AND id=?`, id)
	if err != nil {
		return backupRow{}, fmt.Errorf("read backup %s: %w", id, err)
	}
	if len(found) == 0 {
		return backupRow{}, notFound(id)
	}
	return found[0], nil
}

func (r reader) Backup(ctx context.Context, id string) (trove.Backup, error) {
	b, err := r.backup(ctx, id)
	return b.Backup, err
}

func (r reader) BackupDeleted(ctx context.Context, id string) (bool, error) {
	n := 0
	if err := r.run.row(ctx, []any{&n}, `SELECT COUNT(*) FROM backup WHERE id=? AND deleted=1`, id); err != nil {
		return false, fmt.Errorf("look for the deleted backup %s: %w", id, err)
	}
	return n > 0, nil
}

func (r reader) Backups(ctx context.Context, f store.BackupFilter) ([]trove.Backup, error) {
	var q strings.Builder
	var args []any
	for _, c := range []struct{ and, value string }{
		{` AND project_id=?`, f.ProjectID},
		{` AND instance_id=?`, f.InstanceID},
		{` AND parent_id=?`, f.ParentID},
		{` AND datastore_version_id IN (SELECT id FROM datastore_version WHERE datastore_id=?)`, f.DatastoreID},
	} {
		if c.value != "" {
			q.WriteString(c.and)
			args = append(args, c.value)
		}
	}
	if len(f.States) > 0 {
		q.WriteString(` AND state IN (?` + strings.Repeat(`,?`, len(f.States)-1) + `)`)
		for _, s := range f.States {
			args = append(args, string(s))
		}
	}
	limit := f.Limit
	if limit <= 0 {
		limit = math.MaxInt32
	}
	q.WriteString(` ORDER BY updated DESC, id LIMIT ? OFFSET ?`)
	rows, err := r.backups(ctx, q.String(), append(args, limit, f.Offset)...)
	if err != nil {
		return nil, fmt.Errorf("list backups: %w", err)
	}
	found := make([]trove.Backup, len(rows))
	for n := range rows {
		found[n] = rows[n].Backup
	}
	return found, nil
}

// backupArgs returns the values of the columns from name to updated.
func backupArgs(b *trove.Backup) []any {
	return []any{
		b.Name, b.Description, b.ParentID, string(b.State), b.Location, b.Size, b.Checksum, b.DatastoreVersionID, b.StorageDriver, micros(b.Updated),
	}
}

func (t *tx) InsertBackup(ctx context.Context, b trove.Backup) error {
	_, err := t.run.exec(ctx, `INSERT INTO backup (name, description, parent_id, state, location, size, checksum, datastore_version_id, storage_driver, updated,
id, project_id, instance_id, created, version) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,1)`,
		append(backupArgs(&b), b.ID, b.ProjectID, b.InstanceID, micros(b.Created))...)
	if err == nil {
		err = t.noteBackups(ctx, b.InstanceID)
	}
	if err != nil {
		return fmt.Errorf("insert backup %s: %w", b.ID, err)
	}
	return nil
}

func (t *tx) UpdateBackup(ctx context.Context, id string, now time.Time, change func(*trove.Backup) error) error {
	row, err := t.backup(ctx, id)
	if err != nil {
		return err
	}
	b := row.Backup
	if err := change(&b); err != nil {
		return err
	}
	b.Updated = now
	err = swap(ctx, t.run, `UPDATE backup SET name=?, description=?, parent_id=?, state=?, location=?, size=?, checksum=?, datastore_version_id=?,
storage_driver=?, updated=?, version=version+1 WHERE id=? AND version=?`, append(backupArgs(&b), id, row.version)...)
	if err == nil {
		err = t.noteBackups(ctx, row.InstanceID)
	}
	if err != nil {
		return fmt.Errorf("update backup %s: %w", id, err)
	}
	return nil
}

func (t *tx) DeleteBackup(ctx context.Context, id string, now time.Time) error {
	b, err := t.backup(ctx, id)
	if trove.IsNotFound(err) {
		return nil
	}
	if err == nil {
		_, err = t.run.exec(ctx, `UPDATE backup SET deleted=1, deleted_at=?, updated=?, version=version+1 WHERE id=? AND deleted=0`, micros(now), micros(now), id)
	}
	if err == nil {
		err = t.noteBackups(ctx, b.InstanceID)
	}
	if err != nil {
		return fmt.Errorf("delete backup %s: %w", id, err)
	}
	return nil
}

// noteBackups writes down at the instance whether a backup of it is running.
func (t *tx) noteBackups(ctx context.Context, instance string) error {
	if instance == "" {
		return nil
	}
	var running int
	err := t.run.row(ctx, []any{&running}, `SELECT COUNT(*) FROM backup WHERE instance_id=? AND deleted=0 AND state IN (?,?,?)`,
		instance, string(trove.BackupNew), string(trove.BackupBuilding), string(trove.BackupSaving))
	if err == nil {
		now := flag(running > 0)
		_, err = t.run.exec(ctx, `UPDATE instance SET backing_up=?, version=version+1 WHERE id=? AND backing_up<>?`, now, instance, now)
	}
	if err != nil {
		return fmt.Errorf("count the running backups of instance %s: %w", instance, err)
	}
	return nil
}

func (r reader) BackupStrategies(ctx context.Context, f store.StrategyFilter) (found []trove.BackupStrategy, err error) {
	query, args := `SELECT project_id, instance_id, backend, container, created FROM backup_strategy WHERE 1=1`, []any(nil)
	if f.ProjectID != "" {
		query, args = query+` AND project_id=?`, append(args, f.ProjectID)
	}
	if f.InstanceID != "" {
		query, args = query+` AND instance_id=?`, append(args, f.InstanceID)
	}
	err = list(ctx, r.run, func(rows *sql.Rows) error {
		var s trove.BackupStrategy
		var created int64
		err := rows.Scan(&s.ProjectID, &s.InstanceID, &s.Backend, &s.Container, &created)
		s.Created = fromMicros(created)
		found = append(found, s)
		return err
	}, query+` ORDER BY project_id, instance_id`, args...)
	if err != nil {
		return nil, fmt.Errorf("list backup strategies: %w", err)
	}
	return found, nil
}

func (t *tx) PutBackupStrategy(ctx context.Context, s trove.BackupStrategy) error {
	err := put(ctx, t.run, `UPDATE backup_strategy SET backend=?, container=?, created=? WHERE project_id=? AND instance_id=?`,
		`INSERT INTO backup_strategy (backend, container, created, project_id, instance_id) VALUES (?,?,?,?,?)`,
		s.Backend, s.Container, micros(s.Created), s.ProjectID, s.InstanceID)
	if err != nil {
		return fmt.Errorf("write the backup strategy of %s: %w", s.ProjectID, err)
	}
	return nil
}

func (t *tx) DeleteBackupStrategy(ctx context.Context, project, instance string) error {
	if _, err := t.run.exec(ctx, `DELETE FROM backup_strategy WHERE project_id=? AND instance_id=?`, project, instance); err != nil {
		return fmt.Errorf("delete the backup strategy of %s: %w", project, err)
	}
	return nil
}
