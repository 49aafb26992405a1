package guestagent

import (
	"context"
	"fmt"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
)

// adoptData makes the data directory of what a Python Trove has left on the volume.
func (r *run) adoptData(ctx context.Context) error {
	a, ok := r.cfg.Engine.(engine.Adopter)
	if !ok {
		return trove.Errorf(trove.KindNotImplemented, "Data of another Trove cannot be taken over by the driver %s.", r.cfg.Engine.Info().Manager)
	}
	r.progressed("taking over the data directory", 10)
	if err := a.Adopt(ctx, r.cfg.Layout); err != nil {
		return fmt.Errorf("take over the data: %w", err)
	}
	return nil
}

// upgradeAdopted fits the data to the programs before anybody sees them; data of a newer version are refused.
func (r *run) upgradeAdopted(ctx context.Context) error {
	u, ok := r.cfg.Engine.(engine.Upgrader)
	if !ok {
		return nil
	}
	if err := u.Upgrade(ctx, r.cfg.Layout, "", func(doing string, percent int) { r.progressed(doing, 40+percent/10) }); err != nil {
		return fmt.Errorf("fit the data to this version: %w", err)
	}
	return nil
}

// finishAdoption does what needs the running server.
func (r *run) finishAdoption(ctx context.Context) error {
	u, ok := r.cfg.Engine.(engine.Upgrader)
	if !ok {
		return nil
	}
	done, err := u.FinishUpgrade(ctx, r.cfg.Layout, func(doing string, percent int) { r.progressed(doing, 50+percent/3) })
	if err != nil {
		return fmt.Errorf("fit the data to this version: %w", err)
	}
	for _, sentence := range done {
		r.log.InfoContext(ctx, "data were fitted to this version", "what", sentence)
	}
	return nil
}
