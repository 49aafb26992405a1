package sqlstore

import (
	"context"
	"fmt"

	trove "github.com/trove-dbaas/trove"
)

// hold writes the row. A lock for reading would do on one server, but each database has other words for it, and the nodes of a Galera cluster tell each other
// of what was written alone.
func (t *tx) hold(ctx context.Context, what, id, update string, missing error) error {
	n, err := t.run.exec(ctx, update, id)
	if err != nil {
		return fmt.Errorf("hold %s %s: %w", what, id, err)
	}
	if n == 0 {
		return missing
	}
	return nil
}

func (t *tx) HoldDatastore(ctx context.Context, id string) error {
	return t.hold(ctx, "datastore", id, `UPDATE datastore SET holds=holds+1 WHERE id=?`,
		trove.Errorf(trove.KindNotFound, "Datastore '%s' cannot be found.", id))
}

func (t *tx) HoldDatastoreVersion(ctx context.Context, id string) error {
	return t.hold(ctx, "datastore version", id, `UPDATE datastore_version SET holds=holds+1 WHERE id=?`,
		trove.Errorf(trove.KindNotFound, "Datastore version '%s' cannot be found.", id))
}

func (t *tx) HoldConfiguration(ctx context.Context, id string) error {
	return t.hold(ctx, "configuration group", id, `UPDATE configuration SET holds=holds+1 WHERE id=?`,
		trove.Errorf(trove.KindNotFound, "Configuration group with ID %s could not be found.", id))
}
