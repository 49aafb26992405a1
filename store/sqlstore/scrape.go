package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/trove-dbaas/trove/store"
)

func (r reader) ScrapeToken(ctx context.Context, instance string) (store.ScrapeToken, error) {
	t := store.ScrapeToken{InstanceID: instance}
	var created int64
	err := r.run.row(ctx, []any{&t.Hash, &t.UserID, &created}, `SELECT hash, user_id, created FROM scrape_token WHERE instance_id=?`, instance)
	if errors.Is(err, sql.ErrNoRows) {
		return store.ScrapeToken{}, notFound(instance)
	}
	if err != nil {
		return store.ScrapeToken{}, fmt.Errorf("read the scrape token of %s: %w", instance, err)
	}
	t.Created = fromMicros(created)
	return t, nil
}

func (t *tx) PutScrapeToken(ctx context.Context, s store.ScrapeToken) error {
	err := put(ctx, t.run, `UPDATE scrape_token SET hash=?, user_id=?, created=? WHERE instance_id=?`,
		`INSERT INTO scrape_token (hash, user_id, created, instance_id) VALUES (?,?,?,?)`, s.Hash, s.UserID, micros(s.Created), s.InstanceID)
	if err != nil {
		return fmt.Errorf("write the scrape token of %s: %w", s.InstanceID, err)
	}
	return nil
}

func (t *tx) DeleteScrapeToken(ctx context.Context, instance string) error {
	if _, err := t.run.exec(ctx, `DELETE FROM scrape_token WHERE instance_id=?`, instance); err != nil {
		return fmt.Errorf("delete the scrape token of %s: %w", instance, err)
	}
	return nil
}
