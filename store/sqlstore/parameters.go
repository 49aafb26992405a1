package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	trove "github.com/trove-dbaas/trove"
)

func (r reader) Parameters(ctx context.Context, version string, removed bool) ([]trove.Parameter, error) {
	var found []trove.Parameter
	err := list(ctx, r.run, func(rows *sql.Rows) error {
		var p trove.Parameter
		err := rows.Scan(&p.Name, &p.RestartRequired, (*string)(&p.Type), (*string)(&p.Min), (*string)(&p.Max), &p.Custom, &p.Deleted)
		found = append(found, p)
		return err
	}, `SELECT name, restart_required, type, min_value, max_value, custom, removed FROM datastore_parameter WHERE datastore_version_id=? AND removed <= ?
ORDER BY name`, version, flag(removed))
	if err != nil {
		return nil, fmt.Errorf("read the parameters of datastore version %s: %w", version, err)
	}
	return found, nil
}

func (t *tx) PutParameter(ctx context.Context, version string, p trove.Parameter) error {
	err := put(ctx, t.run, `UPDATE datastore_parameter SET restart_required=?, type=?, min_value=?, max_value=?, custom=?, removed=?
WHERE datastore_version_id=? AND name=?`, `INSERT INTO datastore_parameter (restart_required, type, min_value, max_value, custom, removed,
datastore_version_id, name) VALUES (?,?,?,?,?,?,?,?)`,
		flag(p.RestartRequired), string(p.Type), string(p.Min), string(p.Max), flag(p.Custom), flag(p.Deleted), version, p.Name)
	if err != nil {
		return fmt.Errorf("put the parameter %s of datastore version %s: %w", p.Name, version, err)
	}
	return nil
}

func (t *tx) ReplaceParameters(ctx context.Context, version string, all []trove.Parameter) error {
	if _, err := t.run.exec(ctx, `DELETE FROM datastore_parameter WHERE datastore_version_id=?`, version); err != nil {
		return fmt.Errorf("replace the parameters of datastore version %s: %w", version, err)
	}
	for _, p := range all {
		if err := t.PutParameter(ctx, version, p); err != nil {
			return err
		}
	}
	return nil
}

var versionUses = []struct{ what, query string }{
	{"instance", `SELECT 1 FROM instance WHERE datastore_version_id=? AND deleted=0 LIMIT 1`},
	{"instance", `SELECT 1 FROM kept_data WHERE datastore_version_id=? LIMIT 1`},
	{"backup", `SELECT 1 FROM backup WHERE datastore_version_id=? AND deleted=0 LIMIT 1`},
	{"configuration", `SELECT 1 FROM configuration WHERE datastore_version_id=? LIMIT 1`},
}

func (r reader) VersionUse(ctx context.Context, version string) (string, error) {
	for _, use := range versionUses {
		var one int
		err := r.run.row(ctx, []any{&one}, use.query, version)
		if err == nil {
			return use.what, nil
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return "", fmt.Errorf("look what uses datastore version %s: %w", version, err)
		}
	}
	return "", nil
}
