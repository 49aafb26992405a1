package sqlstore

import (
	"context"
	"fmt"
	"time"
)

// Claim gives a name to an owner until a time, unless another one has it at that moment. It reports whether he has it now. Names have at most 64 characters.
func (s *Store) Claim(ctx context.Context, name, owner string, now, until time.Time) (has bool, err error) {
	err = s.inTx(ctx, "claim a name", func(ctx context.Context, run runner) error {
		n, err := run.exec(ctx, `UPDATE name_claim SET owner=?, ends=? WHERE name=? AND (owner=? OR ends <= ?)`, owner, micros(until), name, owner, micros(now))
		if has = n > 0; err != nil || has {
			return err
		}
		var there int
		if err := run.row(ctx, []any{&there}, `SELECT COUNT(*) FROM name_claim WHERE name=?`, name); err != nil || there > 0 {
			return err
		}
		_, err = run.exec(ctx, `INSERT INTO name_claim (name, owner, ends) VALUES (?,?,?)`, name, owner, micros(until)) // a conflict runs all of it again
		has = err == nil
		return err
	})
	return has && err == nil, err
}

// Unclaim gives a name back. It is fine if the owner does not have it.
func (s *Store) Unclaim(ctx context.Context, name, owner string) error {
	return s.inTx(ctx, "give a name back", func(ctx context.Context, run runner) error {
		_, err := run.exec(ctx, `DELETE FROM name_claim WHERE name=? AND owner=?`, name, owner)
		return err
	})
}

// Claimed reports whether somebody has the name at the moment.
func (s *Store) Claimed(ctx context.Context, name string, now time.Time) (bool, error) {
	var there int
	err := s.run.row(ctx, []any{&there}, `SELECT COUNT(*) FROM name_claim WHERE name=? AND ends > ?`, name, micros(now))
	if err != nil {
		return false, fmt.Errorf("look who has the name %s: %w", name, err)
	}
	return there > 0, nil
}

// PruneClaims forgets the names of processes that ended while they had them.
func (s *Store) PruneClaims(ctx context.Context, now time.Time) error {
	err := s.inTx(ctx, "prune claims", func(ctx context.Context, run runner) error {
		_, err := run.exec(ctx, `DELETE FROM name_claim WHERE ends <= ?`, micros(now))
		return err
	})
	if err != nil {
		return fmt.Errorf("forget who had names: %w", err)
	}
	return nil
}
