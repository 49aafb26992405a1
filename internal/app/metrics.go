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
	if c.fleet != nil {
		mux.Handle("GET /metrics/instances", localOnly(c.fleet))
	}
}

// brokerStore is the broker's repository over the store.
type brokerStore struct{ *sqlstore.Store }

var _ server.Repository = brokerStore{}

// RevokedKeys returns the keys in the broker's own words.
func (r brokerStore) RevokedKeys(ctx context.Context) ([]server.RevokedKey, error) {
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

// PutController writes the row of a broker.
func (r brokerStore) PutController(ctx context.Context, row server.ControllerRow) error {
	return r.Store.PutController(ctx, sqlstore.Controller(row))
}

// Controllers returns the rows of all brokers.
func (r brokerStore) Controllers(ctx context.Context) ([]server.ControllerRow, error) {
	stored, err := r.Store.Controllers(ctx)
	if err != nil {
		return nil, err
	}
	rows := make([]server.ControllerRow, 0, len(stored))
	for _, c := range stored {
		rows = append(rows, server.ControllerRow(c))
	}
	return rows, nil
}

// GuestTrusts returns what guests were told of the bus.
func (r brokerStore) GuestTrusts(ctx context.Context) ([]server.GuestTrust, error) {
	stored, err := r.Store.GuestTrusts(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]server.GuestTrust, 0, len(stored))
	for _, g := range stored {
		all = append(all, server.GuestTrust(g))
	}
	return all, nil
}
