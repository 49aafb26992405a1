package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
)

// KeyMaterial returns the sealed keys of the deployment by name.
func (s *Store) KeyMaterial(ctx context.Context) (map[string]string, error) {
	found := map[string]string{}
	err := list(ctx, s.run, func(rows *sql.Rows) error {
		var name, content string
		err := rows.Scan(&name, &content)
		found[name] = content
		return err
	}, `SELECT name, content FROM key_material`)
	if err != nil {
		return nil, fmt.Errorf("read the keys of the deployment: %w", err)
	}
	return found, nil
}

// SwapKeyMaterial writes a sealed key if the text that is there is old, "" for none. False: it is another one.
func (s *Store) SwapKeyMaterial(ctx context.Context, name, old, text string) (done bool, err error) {
	err = s.inTx(ctx, "keep the key "+name, func(ctx context.Context, run runner) error {
		var n int64
		var err error
		if old != "" {
			n, err = run.exec(ctx, `UPDATE key_material SET content=? WHERE name=? AND content=?`, text, name, old)
			done = n > 0
			return err
		}
		var there int
		if err := run.row(ctx, []any{&there}, `SELECT COUNT(*) FROM key_material WHERE name=?`, name); err != nil || there > 0 {
			done = false
			return err
		}
		_, err = run.exec(ctx, `INSERT INTO key_material (name, content) VALUES (?,?)`, name, text) // a conflict runs all of it again
		done = err == nil
		return err
	})
	return done && err == nil, err
}
