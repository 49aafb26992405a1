package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/trove-dbaas/trove/store"
)

// RevokedKey is a guest's key that the bus must refuse until the credentials made for it have expired.
type RevokedKey struct {
	InstanceID string
	PublicKey  string
	At         time.Time
	Expires    time.Time
}

// inTx is InTx for the repositories, whose writes are one statement or two.
func (s *Store) inTx(ctx context.Context, doing string, fn func(ctx context.Context, run runner) error) error {
	err := s.InTx(ctx, func(ctx context.Context, t store.Tx) error {
		return fn(ctx, t.(*tx).run)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// RevokedKeys returns all revoked keys, ordered by key.
func (s *Store) RevokedKeys(ctx context.Context) ([]RevokedKey, error) {
	var found []RevokedKey
	err := list(ctx, s.run, func(rows *sql.Rows) error {
		var k RevokedKey
		var at, expires int64
		err := rows.Scan(&k.InstanceID, &k.PublicKey, &at, &expires)
		k.At, k.Expires = fromMicros(at), fromMicros(expires)
		found = append(found, k)
		return err
	}, `SELECT instance_id, public_key, revoked_at, expires FROM revoked_key ORDER BY public_key`)
	if err != nil {
		return nil, fmt.Errorf("read revoked keys: %w", err)
	}
	return found, nil
}

// AddRevokedKey notes that a key is revoked from at on; the note may be pruned after expires. A key that is noted already keeps the first
// time and the later expiry.
func (s *Store) AddRevokedKey(ctx context.Context, instance, publicKey string, at, expires time.Time) error {
	return s.inTx(ctx, "revoke a key of "+instance, func(ctx context.Context, run runner) error {
		n, err := run.exec(ctx, `UPDATE revoked_key SET expires=CASE WHEN expires < ? THEN ? ELSE expires END WHERE public_key=?`,
			micros(expires), micros(expires), publicKey)
		if err == nil && n == 0 {
			_, err = run.exec(ctx, `INSERT INTO revoked_key (public_key, instance_id, revoked_at, expires) VALUES (?,?,?,?)`,
				publicKey, instance, micros(at), micros(expires))
		}
		return err
	})
}

// PruneRevokedKeys drops the keys whose credentials expired before now.
func (s *Store) PruneRevokedKeys(ctx context.Context, now time.Time) error {
	return s.inTx(ctx, "prune revoked keys", func(ctx context.Context, run runner) error {
		_, err := run.exec(ctx, `DELETE FROM revoked_key WHERE expires < ?`, micros(now))
		return err
	})
}
