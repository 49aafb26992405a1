package api

import (
	"context"
	"fmt"
	"net/http"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/store"
)

func strategyOperations() []Operation {
	const path = "/backup_strategies"
	of := []Query{
		{"instance_id", "string", "the strategy of this instance"},
		{"project_id", "string", "of another project; administrators only"},
	}
	return []Operation{
		{
			ID: "listBackupStrategies", Method: http.MethodGet, Path: path, Rule: "backup_strategy:index",
			Summary: "List the containers that backups go to.", Query: of,
			Success: http.StatusOK, Response: wire.BackupStrategyList{}, handle: (*server).listStrategies,
		},
		{
			ID: "createBackupStrategy", Method: http.MethodPost, Path: path, Rule: "backup_strategy:create", Schema: "backup-strategy-create.json",
			Summary: "Name the container of an instance's backups, or of all the project's. One that is there is replaced.",
			Creates: true, Success: http.StatusAccepted, Response: wire.BackupStrategyBody{}, handle: (*server).createStrategy,
		},
		{
			ID: "deleteBackupStrategy", Method: http.MethodDelete, Path: path, Rule: "backup_strategy:delete",
			Summary: "Delete the strategy of an instance, or without one the project's. Gone is fine.", Query: of,
			Success: http.StatusAccepted, handle: (*server).deleteStrategy,
		},
	}
}

// strategyOf reads which project and instance the query names.
func strategyOf(c *call) (store.StrategyFilter, error) {
	q := c.req.URL.Query()
	f := store.StrategyFilter{ProjectID: c.project, InstanceID: q.Get("instance_id")}
	if p := q.Get("project_id"); p != "" && p != c.project {
		if !c.admin {
			return f, trove.Errorf(trove.KindForbidden, "Operation not allowed for tenant %s.", c.project)
		}
		f.ProjectID = p
	}
	return f, nil
}

func viewStrategy(s trove.BackupStrategy) wire.BackupStrategy {
	return wire.BackupStrategy{ProjectID: s.ProjectID, InstanceID: s.InstanceID, Backend: s.Backend, Container: s.Container}
}

func (s *server) listStrategies(ctx context.Context, c *call) (any, error) {
	f, err := strategyOf(c)
	if err != nil {
		return nil, err
	}
	found, err := s.cfg.Store.BackupStrategies(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("list the backup strategies: %w", err)
	}
	out := wire.BackupStrategyList{Strategies: []wire.BackupStrategy{}}
	for _, st := range found {
		out.Strategies = append(out.Strategies, viewStrategy(st))
	}
	return &out, nil
}

// createStrategy does not look at the instance, as in Trove: a strategy may come before it, and tells nothing about it.
func (s *server) createStrategy(ctx context.Context, c *call) (any, error) {
	body := c.body.obj("backup_strategy")
	st := trove.BackupStrategy{
		ProjectID: c.project, InstanceID: body.str("instance_id"), Backend: trove.BackendSwift, Container: body.str("swift_container"),
		Created: s.cfg.Clock.Now(),
	}
	out := &wire.BackupStrategyBody{Strategy: viewStrategy(st)}
	if err := s.willAnswer(ctx, c, out); err != nil {
		return nil, err
	}
	err := s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error { return tx.PutBackupStrategy(ctx, st) })
	if err != nil {
		return nil, fmt.Errorf("write the backup strategy: %w", err)
	}
	return out, nil
}

func (s *server) deleteStrategy(ctx context.Context, c *call) (any, error) {
	f, err := strategyOf(c)
	if err != nil {
		return nil, err
	}
	err = s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		return tx.DeleteBackupStrategy(ctx, f.ProjectID, f.InstanceID)
	})
	if err != nil {
		return nil, fmt.Errorf("delete the backup strategy: %w", err)
	}
	return nil, nil
}
