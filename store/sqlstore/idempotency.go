package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/store"
)

func (r reader) IdempotentCall(ctx context.Context, id string) (store.IdempotentCall, error) {
	c := store.IdempotentCall{ID: id}
	var lease, expires, ends int64
	err := r.run.row(ctx, []any{&c.Owner, &c.State, &lease, &expires, &ends, &c.Fingerprint, &c.Answer},
		`SELECT owner, state, lease_end, expires, answer_ends, fingerprint, answer FROM idempotent_call WHERE id=?`, id)
	if errors.Is(err, sql.ErrNoRows) {
		return store.IdempotentCall{}, trove.Errorf(trove.KindNotFound, "Resource %s cannot be found.", id)
	}
	if err != nil {
		return store.IdempotentCall{}, fmt.Errorf("read the idempotent call %s: %w", id, err)
	}
	c.LeaseEnd, c.Expires, c.AnswerEnds = fromMicros(lease), fromMicros(expires), fromMicros(ends)
	return c, nil
}

func (t *tx) ClaimIdempotentCall(ctx context.Context, seen, c store.IdempotentCall) error {
	var n int64
	var err error
	if seen.Owner == "" {
		n, err = t.run.exec(ctx, `INSERT INTO idempotent_call (id, owner, state, lease_end, expires, answer_ends, fingerprint, answer)
VALUES (?,?,?,?,?,?,?,?)`,
			c.ID, c.Owner, c.State, micros(c.LeaseEnd), micros(c.Expires), micros(c.AnswerEnds), c.Fingerprint, c.Answer)
	} else {
		n, err = t.run.exec(ctx, `UPDATE idempotent_call SET owner=?, state=?, lease_end=?, expires=?, answer_ends=?, fingerprint=?, answer=?
WHERE id=? AND owner=? AND state=?`,
			c.Owner, c.State, micros(c.LeaseEnd), micros(c.Expires), micros(c.AnswerEnds), c.Fingerprint, c.Answer, c.ID, seen.Owner, seen.State)
	}
	if err == nil && n == 0 {
		err = store.ErrLost
	}
	if err != nil {
		return fmt.Errorf("claim the idempotent call %s: %w", c.ID, err)
	}
	return nil
}

func (t *tx) FinishIdempotentCall(ctx context.Context, c store.IdempotentCall) error {
	n, err := t.run.exec(ctx, `UPDATE idempotent_call SET state=?, expires=?, answer_ends=?, answer=? WHERE id=? AND owner=?`,
		c.State, micros(c.Expires), micros(c.AnswerEnds), c.Answer, c.ID, c.Owner)
	if err == nil && n == 0 {
		err = store.ErrLost
	}
	if err != nil {
		return fmt.Errorf("finish the idempotent call %s: %w", c.ID, err)
	}
	return nil
}

func (t *tx) ReleaseIdempotentCall(ctx context.Context, id, owner string) error {
	if _, err := t.run.exec(ctx, `DELETE FROM idempotent_call WHERE id=? AND owner=? AND state='running'`, id, owner); err != nil {
		return fmt.Errorf("release the idempotent call %s: %w", id, err)
	}
	return nil
}

const dropAnswers = `UPDATE idempotent_call SET answer='', state='done' WHERE state='answered' AND answer_ends <= ? AND expires > ?`

func (t *tx) PruneIdempotentCalls(ctx context.Context, now time.Time, limit int) (int, error) {
	_, err := t.run.exec(ctx, dropAnswers, micros(now), micros(now))
	if err != nil {
		return 0, fmt.Errorf("drop answers of idempotent calls: %w", err)
	}
	n, err := t.prune(ctx, limit,
		`SELECT expires FROM idempotent_call WHERE expires <= ? ORDER BY expires LIMIT 1 OFFSET ?`,
		`DELETE FROM idempotent_call WHERE expires <= ?`, micros(now))
	if err != nil {
		return 0, fmt.Errorf("prune the idempotent calls: %w", err)
	}
	return n, nil
}

// prune removes rows up to a bound, of many only the first ones: at looks for the bound after limit rows.
func (t *tx) prune(ctx context.Context, limit int, at, remove string, bound any) (int, error) {
	var nearer any
	err := t.run.row(ctx, []any{&nearer}, at, bound, max(0, limit-1))
	switch {
	case err == nil:
		bound = nearer
	case !errors.Is(err, sql.ErrNoRows):
		return 0, err
	}
	n, err := t.run.exec(ctx, remove, bound)
	return int(n), err
}
