package troveimport

import (
	"context"
	"slices"

	trove "github.com/trove-dbaas/trove"
)

// quota sets a limit that is still the default here.
func (r *run) quota(ctx context.Context, row record) error {
	project, resource := row["tenant_id"], row["resource"]
	name := project + " " + resource
	limit, whole := number(row["hard_limit"])
	if !whole || project == "" {
		r.say("quota", row["id"], name, Left, "it has no limit or no project")
		return nil
	}
	now, known, err := r.limit(ctx, project, resource)
	if err != nil {
		return err
	}
	usual, _, err := r.limit(ctx, "", resource)
	if err != nil {
		return err
	}
	switch {
	case !known:
		r.say("quota", row["id"], name, Left, "there is no such resource here")
	case now.Limit == limit:
		r.say("quota", row["id"], name, There, "")
	case now.Limit != usual.Limit:
		r.say("quota", row["id"], name, There, "it was set to %d here, and is %d in the source", now.Limit, limit)
	default:
		r.say("quota", row["id"], name, Taken, "%d", limit)
		return r.tx.SetQuota(ctx, project, resource, limit)
	}
	return nil
}

func (r *run) limit(ctx context.Context, project, resource string) (trove.Quota, bool, error) {
	all, err := r.tx.Quotas(ctx, project)
	if err != nil {
		return trove.Quota{}, false, err
	}
	n := slices.IndexFunc(all, func(q trove.Quota) bool { return q.Resource == resource })
	if n < 0 {
		return trove.Quota{}, false, nil
	}
	return all[n], true, nil
}

// hold counts what is taken. A project that would have more than it may gets the limit that it needs: the things are there.
func (r *run) hold(ctx context.Context, project string, amounts map[string]int) error {
	for _, resource := range sortedKeys(amounts) {
		q, _, err := r.limit(ctx, project, resource)
		if err != nil {
			return err
		}
		if need := q.InUse + q.Reserved + amounts[resource]; q.Limit >= 0 && need > q.Limit {
			r.raised[project+" "+resource] = need
			if err := r.tx.SetQuota(ctx, project, resource, need); err != nil {
				return err
			}
		}
	}
	return r.tx.TakeQuota(ctx, project, amounts)
}

// sayRaised says which limits are higher now.
func (r *run) sayRaised() {
	for _, name := range sortedKeys(r.raised) {
		r.say("quota", "", name, Taken, "raised to %d: that much is in use", r.raised[name])
	}
}
