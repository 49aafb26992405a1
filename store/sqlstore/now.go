package sqlstore

import (
	"context"
	"fmt"
	"time"
)

// Now returns what the database's own clock says. SQLite has that of this process.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	var at int64
	if err := s.run.row(ctx, []any{&at}, s.dialect.now); err != nil {
		return time.Time{}, fmt.Errorf("ask the database what time it is: %w", err)
	}
	return fromMicros(at), nil
}
