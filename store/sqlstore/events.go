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

func (r reader) InstanceEvents(ctx context.Context, instance string, afterSeq int64, limit int) ([]trove.InstanceEvent, error) {
	if limit <= 0 {
		limit = math.MaxInt32
	}
	var found []trove.InstanceEvent
	err := list(ctx, r.run, func(rows *sql.Rows) error {
		e := trove.InstanceEvent{InstanceID: instance}
		var at, first int64
		err := rows.Scan(&e.Seq, &at, &first, &e.Count, &e.Kind, &e.Sentence, &e.Details)
		e.At, e.First = fromMicros(at), fromMicros(first)
		found = append(found, e)
		return err
	}, `SELECT seq, at, first_at, count, kind, sentence, details FROM instance_event WHERE instance_id=? AND seq > ? ORDER BY seq LIMIT ?`,
		instance, afterSeq, limit)
	if err != nil {
		return nil, fmt.Errorf("read the events of instance %s: %w", instance, err)
	}
	return found, nil
}

func (r reader) Timeline(ctx context.Context, instance string, after trove.TimelineMark, limit int) ([]trove.TimelineEntry, error) {
	var found []trove.TimelineEntry
	at := micros(after.At)
	err := list(ctx, r.run, func(rows *sql.Rows) error {
		e := trove.TimelineEntry{InstanceEvent: trove.InstanceEvent{InstanceID: instance}}
		var at, first int64
		err := rows.Scan(&at, &e.OperationID, &e.Seq, &first, &e.Count, &e.Kind, &e.Sentence, &e.Details, &e.OperationKind, &e.Step)
		e.At, e.First = fromMicros(at), fromMicros(first)
		if e.OperationID != "" {
			e.Kind = "operation." + e.Kind
		}
		found = append(found, e)
		return err
	}, `SELECT at, operation_id, seq, first_at, count, kind, sentence, details, operation_kind, step FROM (
SELECT e.at AS at, '' AS operation_id, e.seq AS seq, e.first_at AS first_at, e.count AS count, e.kind AS kind, e.sentence AS sentence, e.details AS details,
'' AS operation_kind, '' AS step FROM instance_event e WHERE e.instance_id=? AND e.at >= ?
UNION ALL
SELECT l.at, l.operation_id, l.seq, l.at, 1, l.outcome, l.sentence, '', o.kind, l.step FROM operation o JOIN operation_log l ON l.operation_id=o.id
WHERE o.target=? AND l.at >= ?) t
WHERE at > ? OR (at = ? AND (operation_id > ? OR (operation_id = ? AND seq > ?))) ORDER BY at, operation_id, seq LIMIT ?`,
		instance, at, instance, at, at, at, after.OperationID, after.OperationID, after.Seq, limit)
	if err != nil {
		return nil, fmt.Errorf("read the timeline of instance %s: %w", instance, err)
	}
	return found, nil
}

func (t *tx) AppendInstanceEvent(ctx context.Context, e trove.InstanceEvent) error {
	var last int64
	err := t.run.row(ctx, []any{&last}, `SELECT COALESCE(MAX(seq), 0) FROM instance_event WHERE instance_id=?`, e.InstanceID)
	first := e.First
	if first.IsZero() {
		first = e.At
	}
	if err == nil {
		_, err = t.run.exec(ctx, `INSERT INTO instance_event (instance_id, seq, at, first_at, count, kind, sentence, details) VALUES (?,?,?,?,?,?,?,?)`,
			e.InstanceID, last+1, micros(e.At), micros(first), max(1, e.Count), e.Kind, e.Sentence, e.Details)
	}
	if err == nil && last >= store.KeptEvents {
		_, err = t.run.exec(ctx, `DELETE FROM instance_event WHERE instance_id=? AND seq <= ?`, e.InstanceID, last+1-store.KeptEvents)
	}
	if err != nil {
		return fmt.Errorf("append to the timeline of instance %s: %w", e.InstanceID, err)
	}
	return nil
}

func (t *tx) CountInstanceEvent(ctx context.Context, e trove.InstanceEvent, within time.Duration) error {
	var seq int64
	err := t.run.row(ctx, []any{&seq}, `SELECT seq FROM instance_event WHERE instance_id=? AND kind=? AND first_at > ? ORDER BY first_at DESC LIMIT 1`,
		e.InstanceID, e.Kind, micros(e.At.Add(-within)))
	if errors.Is(err, sql.ErrNoRows) {
		return t.AppendInstanceEvent(ctx, e)
	}
	if err == nil {
		_, err = t.run.exec(ctx, `UPDATE instance_event SET at=?, count=count+?, sentence=?, details=? WHERE instance_id=? AND seq=?`,
			micros(e.At), max(1, e.Count), e.Sentence, e.Details, e.InstanceID, seq)
	}
	if err != nil {
		return fmt.Errorf("count an event of instance %s: %w", e.InstanceID, err)
	}
	return nil
}
