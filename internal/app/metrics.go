package app

import (
	"context"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/trove-dbaas/trove/bus/natsbus/server"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

// handleMetrics serves the metrics of this process, to this machine only.
func (c *controllers) handleMetrics(mux *http.ServeMux) {
	mux.Handle("GET /metrics", localOnly(promhttp.HandlerFor(c.metrics, promhttp.HandlerOpts{MaxRequestsInFlight: 2})))
}

// revocations is the broker's repository over the store.
type revocations struct{ *sqlstore.Store }

var _ server.Repository = revocations{}

// RevokedKeys returns the keys in the broker's own words.
func (r revocations) RevokedKeys(ctx context.Context) ([]server.RevokedKey, error) {
	stored, err := r.Store.RevokedKeys(ctx)
	if err != nil {
		return nil, err
	}
	keys := make([]server.RevokedKey, 0, len(stored))
	for _, k := range stored {
		keys = append(keys, server.RevokedKey{InstanceID: k.InstanceID, PublicKey: k.PublicKey, At: k.At, Expires: k.Expires})
	}
	return keys, nil
}
