package app

import (
	"context"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/config"
)

// CABundle returns the certificates that guests are told to believe. It changes nothing: a service that never ran has none.
func CABundle(ctx context.Context, cfg config.Config, master string) (string, error) {
	schema, err := StoreSchema(ctx, cfg)
	if err != nil {
		return "", err
	}
	if schema.At != schema.Known {
		return "", trove.Errorf(trove.KindConflict, "The service has not run with this store yet: start it first.")
	}
	k, err := OpenKeys(ctx, cfg, master)
	if err != nil {
		return "", err
	}
	defer func() { _ = k.Close() }()
	r, err := k.CA(ctx)
	return r.Bundle, err
}
