package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

// Snapshot writes a copy of the database at path into a new file: as of one moment, also while others write, and checked. It waits for no writer and
// stops none.
func Snapshot(ctx context.Context, path, to string) (err error) {
	if err := checkDriver(); err != nil {
		return err
	}
	if _, err := os.Stat(path); err != nil { // the driver would make it
		return fmt.Errorf("copy the store: %w", err)
	}
	dsn := (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: "_pragma=busy_timeout(10000)"}).String()
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return fmt.Errorf("copy the store %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, `VACUUM INTO ?`, to); err != nil {
		return fmt.Errorf("copy the store %s: %w", path, err)
	}
	return checkCopy(ctx, to)
}

// checkCopy lets SQLite read all of a copy.
func checkCopy(ctx context.Context, path string) (err error) {
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: "mode=ro"}).String())
	if err != nil {
		return fmt.Errorf("check the copy of the store: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var said string
	if err := db.QueryRowContext(ctx, `PRAGMA quick_check`).Scan(&said); err != nil {
		return fmt.Errorf("check the copy of the store: %w", err)
	}
	if said != "ok" {
		return fmt.Errorf("check the copy of the store: %s", said)
	}
	return nil
}

// AfterRestore makes a store true again that was restored from a copy, in one transaction. Operations that were open are closed as failed and nothing of
// them is undone: in the meantime they were finished, or what they made is in use. A wish to delete stays and begins anew. The instances get a fault with the
// sentence; what projects use of their quotas is counted anew. It returns the operations that it closed, and may be repeated.
func (s *Store) AfterRestore(ctx context.Context, sentence string, now time.Time) (closed []trove.Operation, err error) {
	err = s.InTx(ctx, func(ctx context.Context, st store.Tx) error {
		t := st.(*tx)
		closed = nil
		open, err := t.operations(ctx, selectOperation+`WHERE id IN (SELECT operation_id FROM operation_lock) ORDER BY id`)
		if err != nil {
			return err
		}
		for _, o := range open {
			if err := t.drop(ctx, o, sentence, now); err != nil {
				return err
			}
			closed = append(closed, o.Operation)
		}
		if err := t.forgetCloud(ctx); err != nil {
			return err
		}
		return t.recount(ctx)
	})
	if err != nil {
		return nil, fmt.Errorf("make the restored store true again: %w", err)
	}
	return closed, nil
}

// drop closes an operation as it is and frees its instance.
func (t *tx) drop(ctx context.Context, o store.OperationRow, sentence string, now time.Time) error {
	o.Error, o.Sentence = sentence, sentence
	if err := t.CloseOperation(ctx, o, trove.OperationFailed, now); err != nil {
		return err
	}
	if err := t.AppendOperationLog(ctx, trove.OperationEvent{OperationID: o.ID, At: now, Step: o.Step, Outcome: "closed", Sentence: sentence}); err != nil {
		return err
	}
	err := t.UpdateInstance(ctx, o.Target, now, func(i *trove.Instance) error {
		switch {
		case i.Task == trove.TaskDeleting:
			return nil
		case o.Kind == trove.OpCreate:
			i.CutOff()
		default:
			i.Task = trove.TaskNone
		}
		i.Fault = &trove.Fault{Message: sentence, Details: "operation " + o.ID + " (" + o.Kind + "), step " + o.Step, Created: now}
		return nil
	})
	if trove.IsNotFound(err) {
		return nil // a delete had come as far as the row
	}
	if err != nil {
		return err
	}
	return t.AppendInstanceEvent(ctx, trove.InstanceEvent{
		InstanceID: o.Target, At: now, Kind: trove.EventTaskDropped, Sentence: sentence, Details: "operation " + o.ID + " (" + o.Kind + "), step " + o.Step,
	})
}

// recount sets what each project uses to what its living instances hold and to its living backups.
func (t *tx) recount(ctx context.Context) error {
	all, err := t.Instances(ctx, store.InstanceFilter{})
	if err != nil {
		return err
	}
	use := map[string]map[string]int{}
	for _, i := range all {
		if use[i.ProjectID] == nil {
			use[i.ProjectID] = map[string]int{}
		}
		for resource, n := range i.Held {
			use[i.ProjectID][resource] += n
		}
	}
	err = list(ctx, t.run, func(rows *sql.Rows) error {
		var project string
		var n int
		err := rows.Scan(&project, &n)
		if use[project] == nil {
			use[project] = map[string]int{}
		}
		use[project][trove.QuotaBackups] += n
		return err
	}, `SELECT project_id, COUNT(*) FROM backup WHERE deleted=0 GROUP BY project_id`)
	if err != nil {
		return fmt.Errorf("count the backups: %w", err)
	}
	if _, err := t.run.exec(ctx, `UPDATE quota SET in_use=0`); err != nil {
		return fmt.Errorf("count quotas anew: %w", err)
	}
	for project, held := range use {
		for resource, n := range held {
			err := put(ctx, t.run, `UPDATE quota SET in_use=? WHERE project_id=? AND resource=?`,
				`INSERT INTO quota (in_use, project_id, resource) VALUES (?,?,?)`, n, project, resource)
			if err != nil {
				return fmt.Errorf("count the quota %s of %s anew: %w", resource, project, err)
			}
		}
	}
	return nil
}
