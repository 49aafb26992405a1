package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

// never is the wake_at of closed operations, so that one range scan finds all due work.
const never = int64(1) << 62

const selectOperation = `SELECT id, kind, target, project_id, request_id, state, direction, step, step_no, steps, step_started, attempt, sentence, percent, cancel,
error, created, updated, deadline, version, claim, wake_at, owner, events, input, notes FROM operation `

func scanOperation(rows *sql.Rows) (store.OperationRow, error) {
	var o store.OperationRow
	var direction, state, input, notes string
	var started, created, updated, deadline, wake int64
	err := rows.Scan(&o.ID, &o.Kind, &o.Target, &o.ProjectID, &o.RequestID, &state, &direction, &o.Step, &o.StepNo, &o.Steps, &started, &o.Attempt,
		&o.Sentence, &o.Percent, &o.Cancelled, &o.Error, &created, &updated, &deadline, &o.Version, &o.Claim, &wake, &o.Owner, &o.Events, &input, &notes)
	if err != nil {
		return o, err
	}
	o.State, o.Undoing = trove.OperationState(state), direction == "undo"
	o.StepStarted, o.Created, o.Updated, o.Deadline = fromMicros(started), fromMicros(created), fromMicros(updated), fromMicros(deadline)
	if wake != never {
		o.WakeAt = fromMicros(wake)
	}
	o.Input, o.Notes = bytesOf(input), bytesOf(notes)
	return o, nil
}

func bytesOf(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}

func direction(undo bool) string {
	if undo {
		return "undo"
	}
	return "do"
}

func (r reader) operations(ctx context.Context, query string, args ...any) ([]store.OperationRow, error) {
	var found []store.OperationRow
	err := list(ctx, r.run, func(rows *sql.Rows) error {
		o, err := scanOperation(rows)
		found = append(found, o)
		return err
	}, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read operations: %w", err)
	}
	return found, nil
}

func (r reader) operation(ctx context.Context, name, query string, args ...any) (store.OperationRow, error) {
	found, err := r.operations(ctx, query, args...)
	if err != nil {
		return store.OperationRow{}, err
	}
	if len(found) == 0 {
		return store.OperationRow{}, notFound(name)
	}
	return found[0], nil
}

func (r reader) Operation(ctx context.Context, id string) (trove.Operation, error) {
	o, err := r.operation(ctx, id, selectOperation+`WHERE id=?`, id)
	return o.Operation, err
}

func (r reader) OpenOperation(ctx context.Context, target string) (trove.Operation, error) {
	o, err := r.operation(ctx, target, selectOperation+`WHERE id=(SELECT operation_id FROM operation_lock WHERE target=?)`, target)
	return o.Operation, err
}

func (r reader) CountOpenOperations(ctx context.Context) (int, error) {
	var n int
	if err := r.run.row(ctx, []any{&n}, `SELECT COUNT(*) FROM operation_lock`); err != nil {
		return 0, fmt.Errorf("count open operations: %w", err)
	}
	return n, nil
}

func (r reader) Operations(ctx context.Context, target string, limit int) ([]trove.Operation, error) {
	if limit <= 0 {
		limit = math.MaxInt32
	}
	rows, err := r.operations(ctx, selectOperation+`WHERE target=? ORDER BY created DESC, id DESC LIMIT ?`, target, limit)
	found := make([]trove.Operation, 0, len(rows))
	for _, o := range rows {
		found = append(found, o.Operation)
	}
	return found, err
}

func (r reader) OperationLog(ctx context.Context, operation string, after int64) ([]trove.OperationEvent, error) {
	var found []trove.OperationEvent
	err := list(ctx, r.run, func(rows *sql.Rows) error {
		e := trove.OperationEvent{OperationID: operation}
		var at int64
		err := rows.Scan(&e.Seq, &at, &e.Step, &e.Outcome, &e.Sentence)
		e.At = fromMicros(at)
		found = append(found, e)
		return err
	}, `SELECT seq, at, step, outcome, sentence FROM operation_log WHERE operation_id=? AND seq > ? ORDER BY seq`, operation, after)
	if err != nil {
		return nil, fmt.Errorf("read the timeline of operation %s: %w", operation, err)
	}
	return found, nil
}

func (r reader) DueOperations(ctx context.Context, now time.Time, limit int) ([]store.OperationRow, error) {
	return r.operations(ctx, selectOperation+`WHERE wake_at <= ? ORDER BY wake_at LIMIT ?`, micros(now), limit)
}

func (t *tx) EnqueueOperation(ctx context.Context, o store.OperationRow) error {
	var holder string
	err := t.run.row(ctx, []any{&holder}, `SELECT operation_id FROM operation_lock WHERE target=?`, o.Target)
	if err == nil {
		return store.ErrBusy
	}
	if errors.Is(err, sql.ErrNoRows) {
		_, err = t.run.exec(ctx, `INSERT INTO operation_lock (target, operation_id) VALUES (?,?)`, o.Target, o.ID)
	}
	if err == nil {
		_, err = t.run.exec(ctx, `INSERT INTO operation (id, kind, target, project_id, request_id, state, direction, step, step_no, steps, step_started, attempt,
sentence, percent, cancel, error, created, updated, deadline, version, claim, wake_at, owner, events, input, notes)
VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
			o.ID, o.Kind, o.Target, o.ProjectID, o.RequestID, string(trove.OperationOpen), direction(o.Undoing), o.Step, o.StepNo, o.Steps, micros(o.StepStarted),
			o.Attempt, o.Sentence, o.Percent, 0, o.Error, micros(o.Created), micros(o.Updated), micros(o.Deadline), 1, 1, micros(o.WakeAt), "", 0,
			string(o.Input), string(o.Notes))
	}
	if err != nil {
		return fmt.Errorf("enqueue operation %s: %w", o.ID, err)
	}
	return nil
}

func (t *tx) ClaimOperation(ctx context.Context, seen store.OperationRow, owner string, leaseEnd time.Time) (store.OperationRow, error) {
	// wake_at is compared too: a renewal changes nothing else.
	n, err := t.run.exec(ctx, `UPDATE operation SET owner=?, claim=claim+1, wake_at=? WHERE id=? AND claim=? AND wake_at=? AND state='open'`,
		owner, micros(leaseEnd), seen.ID, seen.Claim, micros(seen.WakeAt))
	if err != nil {
		return store.OperationRow{}, fmt.Errorf("claim operation %s: %w", seen.ID, err)
	}
	if n == 0 {
		return store.OperationRow{}, store.ErrLost
	}
	return t.operation(ctx, seen.ID, selectOperation+`WHERE id=?`, seen.ID)
}

func (t *tx) RenewOperations(ctx context.Context, owner string, leaseEnd time.Time) (int, error) {
	if owner == "" {
		return 0, trove.Permanent(errors.New("renew the leases of nobody"))
	}
	n, err := t.run.exec(ctx, `UPDATE operation SET wake_at=? WHERE owner=?`, micros(leaseEnd), owner)
	if err != nil {
		return 0, fmt.Errorf("renew leases: %w", err)
	}
	return int(n), nil
}

func (t *tx) TakeOverOperations(ctx context.Context, due time.Time) (int, error) {
	n, err := t.run.exec(ctx, `UPDATE operation SET owner='', claim=claim+1, wake_at=CASE WHEN wake_at < ? THEN wake_at ELSE ? END WHERE owner > '' AND state='open'`,
		micros(due), micros(due))
	if err != nil {
		return 0, fmt.Errorf("take over operations: %w", err)
	}
	return int(n), nil
}

func (t *tx) SaveOperation(ctx context.Context, o store.OperationRow, now time.Time) (store.OperationRow, error) {
	n, err := t.run.exec(ctx, `UPDATE operation SET direction=?, step=?, step_no=?, steps=?, step_started=?, attempt=?, sentence=?, percent=?, error=?, updated=?,
deadline=?, version=version+1, claim=claim+1, wake_at=?, owner=?, notes=? WHERE id=? AND claim=? AND state='open'`,
		direction(o.Undoing), o.Step, o.StepNo, o.Steps, micros(o.StepStarted), o.Attempt, o.Sentence, o.Percent, o.Error, micros(now),
		micros(o.Deadline), micros(o.WakeAt), o.Owner, string(o.Notes), o.ID, o.Claim)
	if err != nil {
		return o, fmt.Errorf("save operation %s: %w", o.ID, err)
	}
	if n == 0 {
		return o, store.ErrLost
	}
	saved, err := t.operation(ctx, o.ID, selectOperation+`WHERE id=?`, o.ID)
	if err != nil {
		return o, err
	}
	if o.Owner == "" && saved.Events != o.Events && saved.WakeAt.After(now) {
		// Something happened between the step's look and now: nobody may sleep over it.
		saved.WakeAt = now
		if _, err := t.run.exec(ctx, `UPDATE operation SET wake_at=? WHERE id=?`, micros(now), o.ID); err != nil {
			return o, fmt.Errorf("wake operation %s: %w", o.ID, err)
		}
	}
	return saved, nil
}

func (t *tx) CloseOperation(ctx context.Context, o store.OperationRow, state trove.OperationState, now time.Time) error {
	if state == trove.OperationOpen {
		return trove.Permanent(fmt.Errorf("close operation %s as open", o.ID))
	}
	n, err := t.run.exec(ctx, `UPDATE operation SET state=?, direction=?, step=?, step_no=?, attempt=?, sentence=?, percent=?, error=?, updated=?, version=version+1,
claim=claim+1, wake_at=?, owner='', notes=? WHERE id=? AND claim=? AND state='open'`,
		string(state), direction(o.Undoing), o.Step, o.StepNo, o.Attempt, o.Sentence, o.Percent, o.Error, micros(now), never, string(o.Notes), o.ID, o.Claim)
	if err == nil && n == 0 {
		return store.ErrLost
	}
	if err == nil {
		_, err = t.run.exec(ctx, `DELETE FROM operation_lock WHERE target=? AND operation_id=?`, o.Target, o.ID)
	}
	if err != nil {
		return fmt.Errorf("close operation %s: %w", o.ID, err)
	}
	return nil
}

func (t *tx) SayOperation(ctx context.Context, id, sentence string, percent int, now time.Time) error {
	_, err := t.run.exec(ctx, `UPDATE operation SET sentence=?, percent=?, updated=?, version=version+1 WHERE id=? AND state='open'
AND (sentence <> ? OR percent <> ?)`, sentence, percent, micros(now), id, sentence, percent)
	if err != nil {
		return fmt.Errorf("write the sentence of operation %s: %w", id, err)
	}
	return nil
}

func (t *tx) SignalOperation(ctx context.Context, target string, now time.Time) error {
	_, err := t.run.exec(ctx, `UPDATE operation SET events=events+1, wake_at=CASE WHEN owner='' THEN ? ELSE wake_at END WHERE target=? AND state='open'`,
		micros(now), target)
	if err != nil {
		return fmt.Errorf("signal the operation of %s: %w", target, err)
	}
	return nil
}

func (t *tx) CancelOperation(ctx context.Context, id string, now time.Time) error {
	n, err := t.run.exec(ctx, `UPDATE operation SET cancel=1, updated=?, version=version+1, events=events+1, wake_at=CASE WHEN owner='' THEN ? ELSE wake_at END
WHERE id=? AND state='open'`, micros(now), micros(now), id)
	if err != nil {
		return fmt.Errorf("cancel operation %s: %w", id, err)
	}
	if n == 0 {
		return notFound(id)
	}
	return nil
}

func (t *tx) AppendOperationLog(ctx context.Context, e trove.OperationEvent) error {
	var last int64
	err := t.run.row(ctx, []any{&last}, `SELECT COALESCE(MAX(seq), 0) FROM operation_log WHERE operation_id=?`, e.OperationID)
	if err == nil {
		_, err = t.run.exec(ctx, `INSERT INTO operation_log (operation_id, seq, at, step, outcome, sentence) VALUES (?,?,?,?,?,?)`,
			e.OperationID, last+1, micros(e.At), e.Step, e.Outcome, e.Sentence)
	}
	if err != nil {
		return fmt.Errorf("append to the timeline of operation %s: %w", e.OperationID, err)
	}
	return nil
}
