package sqlstore

import (
	"context"
	"fmt"
	"math"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

func (r reader) ManagedInstances(ctx context.Context, f store.ManagedFilter) ([]trove.Instance, error) {
	var where []string
	var args []any
	if f.ProjectID != "" {
		where, args = append(where, `i.project_id = ?`), append(args, f.ProjectID)
	}
	if f.Deleted != nil {
		where, args = append(where, `i.deleted = ?`), append(args, flag(*f.Deleted))
	}
	if f.Cluster != nil {
		where, args = append(where, `i.cluster_id = ?`), append(args, *f.Cluster)
	}
	q := ``
	if len(where) > 0 {
		q = `WHERE ` + strings.Join(where, ` AND `)
	}
	q += ` ORDER BY i.updated DESC, i.id DESC`
	if f.Limit > 0 || f.Offset > 0 {
		limit := f.Limit
		if limit <= 0 {
			limit = math.MaxInt32
		}
		q, args = q+` LIMIT ? OFFSET ?`, append(args, limit, f.Offset)
	}
	found, err := r.instances(ctx, q, 0, args...) // not of the cache: it knows living ones
	if err != nil {
		return nil, fmt.Errorf("list instances for management: %w", err)
	}
	return found, nil
}

func (r reader) DeletedInstance(ctx context.Context, id string) (trove.Instance, error) {
	found, err := r.instances(ctx, `WHERE i.id = ? AND i.deleted = 1`, 0, id)
	if err != nil {
		return trove.Instance{}, fmt.Errorf("read the deleted instance %s: %w", id, err)
	}
	if len(found) == 0 {
		return trove.Instance{}, notFound(id)
	}
	return found[0], nil
}
