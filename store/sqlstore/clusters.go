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

const selectCluster = `SELECT id, project_id, name, task, datastore_version_id, configuration_id, created, updated, deleted_at, version FROM cluster `

// clusterRow is a cluster with the number of its writes.
type clusterRow struct {
	trove.Cluster
	version int64
}

func (r reader) clusters(ctx context.Context, where string, args ...any) (found []clusterRow, err error) {
	err = list(ctx, r.run, func(rows *sql.Rows) error {
		var c clusterRow
		var created, updated, deleted int64
		err := rows.Scan(&c.ID, &c.ProjectID, &c.Name, &c.Task, &c.DatastoreVersionID, &c.ConfigurationID, &created, &updated, &deleted, &c.version)
		c.Created, c.Updated, c.DeletedAt = fromMicros(created), fromMicros(updated), fromMicros(deleted)
		found = append(found, c)
		return err
	}, selectCluster+where, args...)
	return found, err
}

func (r reader) cluster(ctx context.Context, id string) (clusterRow, error) {
	found, err := r.clusters(ctx, `WHERE id=?`, id)
	if err != nil {
		return clusterRow{}, fmt.Errorf("read cluster %s: %w", id, err)
	}
	if len(found) == 0 {
		return clusterRow{}, noCluster(id)
	}
	return found[0], nil
}

func noCluster(id string) error {
	return trove.Errorf(trove.KindNotFound, "Cluster '%s' cannot be found.", id)
}

func (r reader) Cluster(ctx context.Context, id string) (trove.Cluster, error) {
	c, err := r.cluster(ctx, id)
	return c.Cluster, err
}

func (r reader) Clusters(ctx context.Context, f store.ClusterFilter) ([]trove.Cluster, error) {
	var q strings.Builder
	q.WriteString(`WHERE id > ?`)
	args := []any{f.Marker}
	if f.ProjectID != "" {
		q.WriteString(` AND project_id=?`)
		args = append(args, f.ProjectID)
	}
	if f.Deleted != nil {
		q.WriteString(` AND deleted=?`)
		args = append(args, flag(*f.Deleted))
	}
	limit := f.Limit
	if limit <= 0 {
		limit = math.MaxInt32
	}
	q.WriteString(` ORDER BY id LIMIT ?`)
	rows, err := r.clusters(ctx, q.String(), append(args, limit)...)
	if err != nil {
		return nil, fmt.Errorf("list clusters: %w", err)
	}
	found := make([]trove.Cluster, len(rows))
	for n := range rows {
		found[n] = rows[n].Cluster
	}
	return found, nil
}

func (t *tx) InsertCluster(ctx context.Context, c trove.Cluster) error {
	_, err := t.run.exec(ctx, `INSERT INTO cluster (id, project_id, name, task, datastore_version_id, configuration_id, created, updated, version)
VALUES (?,?,?,?,?,?,?,?,1)`, c.ID, c.ProjectID, c.Name, int(c.Task), c.DatastoreVersionID, c.ConfigurationID, micros(c.Created), micros(c.Updated))
	if err != nil {
		return fmt.Errorf("insert cluster %s: %w", c.ID, err)
	}
	return nil
}

func (t *tx) UpdateCluster(ctx context.Context, id string, now time.Time, change func(*trove.Cluster) error) error {
	row, err := t.cluster(ctx, id)
	if err == nil && !row.DeletedAt.IsZero() {
		err = noCluster(id)
	}
	if err != nil {
		return err
	}
	c := row.Cluster
	if err := change(&c); err != nil {
		return err
	}
	err = swap(ctx, t.run, `UPDATE cluster SET name=?, task=?, datastore_version_id=?, configuration_id=?, updated=?, version=version+1
WHERE id=? AND version=?`, c.Name, int(c.Task), c.DatastoreVersionID, c.ConfigurationID, micros(now), id, row.version)
	if err != nil {
		return fmt.Errorf("update cluster %s: %w", id, err)
	}
	return nil
}

func (t *tx) DeleteCluster(ctx context.Context, id string, now time.Time) error {
	_, err := t.run.exec(ctx, `UPDATE cluster SET deleted=1, deleted_at=?, updated=?, version=version+1 WHERE id=? AND deleted=0`, micros(now), micros(now), id)
	if err != nil {
		return fmt.Errorf("delete cluster %s: %w", id, err)
	}
	return nil
}
