package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/trove-dbaas/trove/store"
)

// SealedColumn is a column in which texts may hold what the master key seals.
type SealedColumn struct {
	Table, Key, Column string
}

// SealedColumns is the list of all of them: what is sealed in another column is not sealed anew when the master key is replaced, and its old key is
// not dropped. Who adds a column adds it here.
func SealedColumns() []SealedColumn {
	return []SealedColumn{
		{"operation", "id", "input"},
		{"operation", "id", "notes"},
		{"idempotent_call", "id", "fingerprint"},
		{"idempotent_call", "id", "answer"},
		{"module", "id", "contents"},
		{"key_material", "name", "content"},
		{"engine_authority", "id", "sealed_key"},
	}
}

// sealedPage is how many rows are read at a time.
const sealedPage = 200

// RewriteSealed hands every text that may hold something sealed to rewrite and stores what it returns, one row in each transaction; a row that was
// changed meanwhile is looked at again. Row is its id. It returns how many were changed, and may be repeated and cut off at any point.
func (s *Store) RewriteSealed(ctx context.Context, rewrite func(c SealedColumn, row, text string) (string, bool)) (changed int, err error) {
	for _, c := range SealedColumns() {
		n, err := s.rewriteColumn(ctx, c, rewrite)
		changed += n
		if err != nil {
			return changed, fmt.Errorf("seal %s.%s anew: %w", c.Table, c.Column, err)
		}
	}
	return changed, nil
}

type sealedRow struct{ id, text string }

func (s *Store) rewriteColumn(ctx context.Context, c SealedColumn, rewrite func(SealedColumn, string, string) (string, bool)) (changed int, err error) {
	after := ""
	for {
		page, err := s.sealedRows(ctx, c, after)
		if err != nil {
			return changed, err
		}
		for _, r := range page {
			done, err := s.rewriteRow(ctx, c, r, rewrite)
			if err != nil {
				return changed, err
			}
			if done {
				changed++
			}
		}
		if len(page) < sealedPage {
			return changed, nil
		}
		after = page[len(page)-1].id
	}
}

func (s *Store) sealedRows(ctx context.Context, c SealedColumn, after string) (page []sealedRow, err error) {
	query := fmt.Sprintf(`SELECT %s, %s FROM %s WHERE %s > ? AND (%s LIKE '%%sealed2.%%' OR %s LIKE '%%v1.%%') ORDER BY %s LIMIT ?`,
		c.Key, c.Column, c.Table, c.Key, c.Column, c.Column, c.Key)
	err = list(ctx, s.run, func(rows *sql.Rows) error {
		var r sealedRow
		err := rows.Scan(&r.id, &r.text)
		page = append(page, r)
		return err
	}, query, after, sealedPage)
	return page, err
}

// rewriteRow changes one row, as it is in the transaction.
func (s *Store) rewriteRow(ctx context.Context, c SealedColumn, r sealedRow, rewrite func(SealedColumn, string, string) (string, bool)) (done bool, err error) {
	if _, due := rewrite(c, r.id, r.text); !due {
		return false, nil
	}
	err = s.InTx(ctx, func(ctx context.Context, t store.Tx) error {
		done = false
		run := t.(*tx).run
		var text string
		if err := run.row(ctx, []any{&text}, fmt.Sprintf(`SELECT %s FROM %s WHERE %s=?`, c.Column, c.Table, c.Key), r.id); err != nil {
			if errors.Is(err, sql.ErrNoRows) {
				return nil // removed meanwhile
			}
			return err
		}
		again, due := rewrite(c, r.id, text)
		if !due {
			return nil
		}
		done = true
		return swap(ctx, run, fmt.Sprintf(`UPDATE %s SET %s=? WHERE %s=? AND %s=?`, c.Table, c.Column, c.Key, c.Column), again, r.id, text)
	})
	return done, err
}

// VisitTexts hands over every text in the database that holds one of the marks, whatever table and column it is in.
func (s *Store) VisitTexts(ctx context.Context, marks []string, visit func(table, column, text string)) error {
	columns, err := s.textColumns(ctx)
	if err != nil {
		return fmt.Errorf("read the schema: %w", err)
	}
	for _, c := range columns {
		like, args := make([]string, 0, len(marks)), make([]any, 0, len(marks))
		for _, m := range marks {
			like, args = append(like, c.Column+` LIKE ?`), append(args, "%"+m+"%")
		}
		err := list(ctx, s.run, func(rows *sql.Rows) error {
			var text string
			err := rows.Scan(&text)
			visit(c.Table, c.Column, text)
			return err
		}, fmt.Sprintf(`SELECT %s FROM %s WHERE %s`, c.Column, c.Table, strings.Join(like, " OR ")), args...)
		if err != nil {
			return fmt.Errorf("read %s.%s: %w", c.Table, c.Column, err)
		}
	}
	return nil
}

// textColumns returns the columns that hold text, from the schema itself.
func (s *Store) textColumns(ctx context.Context) (columns []SealedColumn, err error) {
	err = list(ctx, s.run, func(rows *sql.Rows) error {
		var c SealedColumn
		err := rows.Scan(&c.Table, &c.Column)
		columns = append(columns, c)
		return err
	}, s.dialect.textColumns)
	return columns, err
}
