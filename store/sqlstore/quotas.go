package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	trove "github.com/trove-dbaas/trove"
)

func (r reader) Quotas(ctx context.Context, project string) ([]trove.Quota, error) {
	byName := map[string]trove.Quota{}
	for resource, limit := range r.quotas {
		byName[resource] = trove.Quota{Resource: resource, Limit: limit}
	}
	err := list(ctx, r.run, func(rows *sql.Rows) error {
		var q trove.Quota
		var limit sql.NullInt64
		if err := rows.Scan(&q.Resource, &limit, &q.InUse, &q.Reserved); err != nil {
			return err
		}
		known, ok := byName[q.Resource]
		if !ok {
			return nil
		}
		q.Limit = known.Limit
		if limit.Valid {
			q.Limit = int(limit.Int64)
		}
		byName[q.Resource] = q
		return nil
	}, `SELECT resource, hard_limit, in_use, reserved FROM quota WHERE project_id=?`, project)
	if err != nil {
		return nil, fmt.Errorf("read the quotas of %s: %w", project, err)
	}
	found := make([]trove.Quota, 0, len(byName))
	for _, resource := range slices.Sorted(maps.Keys(byName)) {
		found = append(found, byName[resource])
	}
	return found, nil
}

func (t *tx) TakeQuota(ctx context.Context, project string, amounts map[string]int) error {
	taken := map[string]int{}
	var over []string
	for _, resource := range slices.Sorted(maps.Keys(amounts)) { // in order, so that two transactions never wait for each other's rows
		amount := amounts[resource]
		if amount == 0 {
			continue
		}
		if err := t.checkQuota(resource, amount); err != nil {
			return err
		}
		ok, err := t.takeOne(ctx, project, resource, amount)
		if err != nil {
			return fmt.Errorf("take %d of the quota %s of %s: %w", amount, resource, project, err)
		}
		if ok {
			taken[resource] = amount
		} else {
			over = append(over, "'"+resource+"'")
		}
	}
	if len(over) == 0 {
		return nil
	}
	if err := t.GiveQuota(ctx, project, taken); err != nil {
		return err
	}
	return trove.Errorf(trove.KindOverLimit, "Quota exceeded for resources: [%s].", strings.Join(over, ", "))
}

func (t *tx) checkQuota(resource string, amount int) error {
	if _, ok := t.quotas[resource]; !ok {
		return trove.Permanent(fmt.Errorf("there is no quota for %q", resource))
	}
	if amount < 0 {
		return trove.Permanent(fmt.Errorf("the amount %d of the quota %s is negative", amount, resource))
	}
	return nil
}

// takeOne compares and adds in one statement, so that the limit holds whatever runs beside it.
func (t *tx) takeOne(ctx context.Context, project, resource string, amount int) (bool, error) {
	limit := t.quotas[resource]
	for known := false; ; {
		n, err := t.run.exec(ctx, `UPDATE quota SET in_use=in_use+? WHERE project_id=? AND resource=?
AND (COALESCE(hard_limit, ?) < 0 OR in_use+reserved+? <= COALESCE(hard_limit, ?))`, amount, project, resource, limit, amount, limit)
		if err != nil || n == 1 {
			return n == 1, err
		}
		var one int
		err = t.run.row(ctx, []any{&one}, `SELECT 1 FROM quota WHERE project_id=? AND resource=?`, project, resource)
		switch {
		case err == nil && !known:
			known = true // it may have been inserted since the update looked: only with a row that was there before it is the limit
			continue
		case !errors.Is(err, sql.ErrNoRows):
			return false, err
		}
		if _, err := t.run.exec(ctx, `INSERT INTO quota (project_id, resource) VALUES (?,?)`, project, resource); err != nil {
			return false, err
		}
	}
}

func (t *tx) GiveQuota(ctx context.Context, project string, amounts map[string]int) error {
	for _, resource := range slices.Sorted(maps.Keys(amounts)) {
		amount := amounts[resource]
		if err := t.checkQuota(resource, amount); err != nil {
			return err
		}
		_, err := t.run.exec(ctx, `UPDATE quota SET in_use=CASE WHEN in_use > ? THEN in_use-? ELSE 0 END WHERE project_id=? AND resource=?`,
			amount, amount, project, resource)
		if err != nil {
			return fmt.Errorf("give back %d of the quota %s of %s: %w", amount, resource, project, err)
		}
	}
	return nil
}

func (t *tx) SetQuota(ctx context.Context, project, resource string, limit int) error {
	if _, ok := t.quotas[resource]; !ok {
		return trove.Errorf(trove.KindBadRequest, "There is no quota for the resource '%s'.", resource)
	}
	err := put(ctx, t.run, `UPDATE quota SET hard_limit=? WHERE project_id=? AND resource=?`,
		`INSERT INTO quota (hard_limit, project_id, resource) VALUES (?,?,?)`, limit, project, resource)
	if err != nil {
		return fmt.Errorf("set the quota %s of %s: %w", resource, project, err)
	}
	return nil
}
