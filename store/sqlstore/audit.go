package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

func (r reader) AuditRecords(ctx context.Context, f store.AuditFilter) ([]trove.AuditRecord, error) {
	where, args := auditWhere(f)
	limit := f.Limit
	if limit <= 0 {
		limit = math.MaxInt32
	}
	var found []trove.AuditRecord
	err := list(ctx, r.run, func(rows *sql.Rows) error {
		var a trove.AuditRecord
		var roles string
		var took int64
		err := rows.Scan(&a.ID, &a.ProjectID, &a.UserID, &a.UserName, &roles, &a.Remote, &a.RequestID, &a.Method, &a.Path, &a.Action, &a.TargetType,
			&a.TargetID, &a.OperationID, &a.Status, &took)
		if err != nil {
			return err
		}
		a.Took = time.Duration(took) * time.Microsecond
		found = append(found, a)
		return json.Unmarshal([]byte(roles), &found[len(found)-1].Roles)
	}, `SELECT id, project_id, user_id, user_name, roles, remote, request_id, method, path, action, target_type, target_id, operation_id, status, took
FROM audit_record`+where+` ORDER BY id DESC LIMIT ?`, append(args, limit)...)
	if err != nil {
		return nil, fmt.Errorf("read the audit records: %w", err)
	}
	return found, nil
}

// auditWhere builds the condition: there are few combinations, so that few statements are kept.
func auditWhere(f store.AuditFilter) (where string, args []any) {
	var parts []string
	add := func(wanted bool, condition string, values ...any) {
		if wanted {
			parts = append(parts, condition)
			args = append(args, values...)
		}
	}
	add(f.ProjectID != "", "project_id=?", f.ProjectID)
	add(f.User != "", "(user_id=? OR user_name=?)", f.User, f.User)
	add(f.TargetID != "", "target_id=?", f.TargetID)
	add(f.Method != "", "method=?", f.Method)
	add(f.Succeeded != nil && *f.Succeeded, "status BETWEEN 200 AND 299")
	add(f.Succeeded != nil && !*f.Succeeded, "NOT (status BETWEEN 200 AND 299)")
	add(!f.Since.IsZero(), "id >= ?", trove.AuditMark(f.Since))
	add(!f.Until.IsZero(), "id < ?", trove.AuditMark(f.Until))
	add(f.Marker != "", "id < ?", f.Marker)
	if len(parts) == 0 {
		return "", nil
	}
	return " WHERE " + strings.Join(parts, " AND "), args
}

func (t *tx) AppendAudit(ctx context.Context, a trove.AuditRecord) error {
	roles, err := json.Marshal(append([]string{}, a.Roles...))
	if err == nil {
		_, err = t.run.exec(ctx, `INSERT INTO audit_record (id, project_id, user_id, user_name, roles, remote, request_id, method, path, action, target_type,
target_id, operation_id, status, took) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
			a.ID, cut(a.ProjectID, 255), cut(a.UserID, 255), cut(a.UserName, 255), string(roles), cut(a.Remote, 64), cut(a.RequestID, 64), cut(a.Method, 16),
			cut(a.Path, maxAuditPath), cut(a.Action, 64), cut(a.TargetType, 64), cut(a.TargetID, 255), cut(a.OperationID, 64), a.Status, a.Took.Microseconds())
	}
	if err != nil {
		return fmt.Errorf("write the audit record %s: %w", a.ID, err)
	}
	return nil
}

// maxAuditPath bounds what a path takes: it comes from outside.
const maxAuditPath = 1024

// cut shortens a text to so many bytes, and takes out what a database may not keep: bytes that are no UTF-8, and zeros.
func cut(text string, bytes int) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "?"), "\x00", "?")
	if len(text) > bytes {
		text = strings.ToValidUTF8(text[:bytes], "")
	}
	return text
}

func (t *tx) AmendAudit(ctx context.Context, a trove.AuditRecord) error {
	_, err := t.run.exec(ctx, `UPDATE audit_record SET target_type=?, target_id=?, operation_id=?, status=?, took=? WHERE id=?`,
		cut(a.TargetType, 64), cut(a.TargetID, 255), cut(a.OperationID, 64), a.Status, a.Took.Microseconds(), a.ID)
	if err != nil {
		return fmt.Errorf("amend the audit record %s: %w", a.ID, err)
	}
	return nil
}

func (t *tx) PruneAudit(ctx context.Context, before time.Time, keep, limit int) (int, error) {
	bound := trove.AuditMark(before)
	if keep > 0 {
		var last string
		err := t.run.row(ctx, []any{&last}, `SELECT id FROM audit_record ORDER BY id DESC LIMIT 1 OFFSET ?`, keep)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return 0, fmt.Errorf("count the audit records: %w", err)
		}
		bound = max(bound, last)
	}
	n, err := t.prune(ctx, limit, `SELECT id FROM audit_record WHERE id <= ? ORDER BY id LIMIT 1 OFFSET ?`, `DELETE FROM audit_record WHERE id <= ?`, bound)
	if err != nil {
		return 0, fmt.Errorf("prune the audit records: %w", err)
	}
	return n, nil
}
