package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// ClaimCloud makes a machine the one that the deployment's local cloud is on, if none is, or with force whichever is. It returns the name of the one that it is
// on otherwise, "" if it is this one. Name is for people.
func (s *Store) ClaimCloud(ctx context.Context, machine, name string, force bool) (other string, err error) {
	err = s.inTx(ctx, "claim the local cloud", func(ctx context.Context, run runner) error {
		other = ""
		var owner, ownerName string
		err := run.row(ctx, []any{&owner, &ownerName}, `SELECT machine, name FROM cloud_owner WHERE id='cloud'`)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			_, err = run.exec(ctx, `INSERT INTO cloud_owner (machine, name, id) VALUES (?,?,'cloud')`, machine, name)
			return err
		case err != nil || owner == machine && ownerName == name:
			return err
		case owner == machine, force:
			_, err = run.exec(ctx, `UPDATE cloud_owner SET machine=?, name=? WHERE id='cloud'`, machine, name)
			return err
		}
		other = ownerName
		return nil
	})
	return other, err
}

// CloudMachine returns the machine that the local cloud is on with its name for people, "" before any has claimed it.
func (s *Store) CloudMachine(ctx context.Context) (machine, name string, err error) {
	err = s.run.row(ctx, []any{&machine, &name}, `SELECT machine, name FROM cloud_owner WHERE id='cloud'`)
	if errors.Is(err, sql.ErrNoRows) {
		return "", "", nil
	}
	if err != nil {
		return "", "", fmt.Errorf("look where the local cloud is: %w", err)
	}
	return machine, name, nil
}

// forgetCloud lets the next machine have the local cloud: after a restore it is where the restored files are.
func (t *tx) forgetCloud(ctx context.Context) error {
	_, err := t.run.exec(ctx, `DELETE FROM cloud_owner`)
	return err
}
