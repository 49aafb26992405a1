package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	trove "github.com/trove-dbaas/trove"
)

func (r reader) keptData(ctx context.Context, where string, args ...any) ([]trove.KeptData, error) {
	var found []trove.KeptData
	err := list(ctx, r.run, func(rows *sql.Rows) error {
		var k trove.KeptData
		var since int64
		err := rows.Scan(&k.InstanceID, &k.DatastoreVersionID, &k.ImageID, &since, &k.Bytes)
		k.Since = fromMicros(since)
		found = append(found, k)
		return err
	}, `SELECT instance_id, datastore_version_id, image_id, since, bytes FROM kept_data `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read what data is kept: %w", err)
	}
	return found, nil
}

func (r reader) KeptData(ctx context.Context, instance string) (trove.KeptData, error) {
	found, err := r.keptData(ctx, `WHERE instance_id=?`, instance)
	if err != nil {
		return trove.KeptData{}, err
	}
	if len(found) == 0 {
		return trove.KeptData{}, notFound(instance)
	}
	return found[0], nil
}

func (r reader) AllKeptData(ctx context.Context, before time.Time, limit int) ([]trove.KeptData, error) {
	return r.keptData(ctx, `WHERE since < ? ORDER BY since, instance_id LIMIT ?`, micros(before), unlimited(limit))
}

func (t *tx) PutKeptData(ctx context.Context, k trove.KeptData) error {
	if err := t.DeleteKeptData(ctx, k.InstanceID); err != nil {
		return err
	}
	_, err := t.run.exec(ctx, `INSERT INTO kept_data (instance_id, datastore_version_id, image_id, since, bytes) VALUES (?, ?, ?, ?, ?)`,
		k.InstanceID, k.DatastoreVersionID, k.ImageID, micros(k.Since), k.Bytes)
	if err != nil {
		return fmt.Errorf("write that data of %s is kept: %w", k.InstanceID, err)
	}
	return nil
}

func (t *tx) DeleteKeptData(ctx context.Context, instance string) error {
	if _, err := t.run.exec(ctx, `DELETE FROM kept_data WHERE instance_id=?`, instance); err != nil {
		return fmt.Errorf("forget that data of %s is kept: %w", instance, err)
	}
	return nil
}
