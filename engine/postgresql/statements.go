package postgresql

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/trove-dbaas/trove/engine"
)

// maxStatement is how long a statement's text may be, in bytes.
const maxStatement = 1024

// Statements implements engine.StatementSource by pg_stat_statements, which each server loads. Only statements whose constants it takes out are counted: no
// utility statements.
func (e *Engine) Statements(ctx context.Context, l engine.Layout, limit int) ([]engine.Statement, error) {
	var all []engine.Statement
	err := place{l}.with(ctx, adminDB, func(c conn) error {
		rows, err := c.rows(ctx, `SELECT left(s.query, 1024), COALESCE(d.datname, ''), s.calls, s.total_exec_time, s.rows
			FROM public.pg_stat_statements s LEFT JOIN pg_database d ON d.oid = s.dbid
			WHERE pg_get_userbyid(s.userid) <> $1 ORDER BY s.total_exec_time DESC LIMIT $2::text::integer`, adminName, strconv.Itoa(max(limit, 0)))
		if err != nil {
			return fmt.Errorf("list the statements: %w", err)
		}
		all = make([]engine.Statement, 0, len(rows))
		for _, r := range rows {
			s := engine.Statement{Text: shorten(r[0], maxStatement), Database: r[1]}
			s.Calls, _ = strconv.ParseInt(r[2], 10, 64)
			ms, _ := strconv.ParseFloat(r[3], 64)
			s.Time = time.Duration(ms * float64(time.Millisecond))
			s.Rows, _ = strconv.ParseInt(r[4], 10, 64)
			all = append(all, s)
		}
		return nil
	})
	return all, err
}

// shorten cuts a text at a character.
func shorten(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && text[limit]&0xC0 == 0x80 {
		limit--
	}
	return text[:limit]
}
