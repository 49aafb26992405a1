package app

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/engineca"
	"github.com/trove-dbaas/trove/secrets"
	"github.com/trove-dbaas/trove/store"
)

// databaseCA returns the authority that signs what databases show.
func databaseCA(s store.Store, sealer secrets.Sealer, c clock.Clock, log *slog.Logger) *engineca.CA {
	return engineca.New(engineca.Config{Store: s, Sealer: sealer, Clock: c, Log: log})
}

// DatabaseCA is an authority that signs what databases show, or did.
type DatabaseCA struct {
	ID         string
	Name       string
	Made, Ends time.Time
	Signs      bool
	Crossed    bool // the one before it has signed it
}

// DatabaseCAs returns the authorities of databases, the newest first, which signs. Before the first database there is none.
func (k *Keys) DatabaseCAs(ctx context.Context) ([]DatabaseCA, error) {
	all, err := k.store.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	var found []DatabaseCA
	for i, a := range all {
		block, _ := pem.Decode([]byte(a.Certificate))
		if block == nil {
			return nil, trove.Errorf(trove.KindInternal, "The certificate of authority %s cannot be read.", a.ID)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read the certificate of authority %s: %w", a.ID, err)
		}
		found = append(found, DatabaseCA{ID: a.ID, Name: cert.Subject.CommonName, Made: a.Made, Ends: a.Ends, Signs: i == 0, Crossed: a.Cross != ""})
	}
	return found, nil
}

// RollDatabaseCA makes a new authority; see engineca.CA.Roll. All databases get certificates of it within minutes.
func (k *Keys) RollDatabaseCA(ctx context.Context, distrust bool) (id string, err error) {
	sealer, err := k.open(ctx)
	if err != nil {
		return "", err
	}
	return databaseCA(k.store, sealer, k.clock, slog.New(slog.DiscardHandler)).Roll(ctx, distrust)
}
