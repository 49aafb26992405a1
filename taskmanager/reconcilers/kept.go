package reconcilers

import (
	"context"
	"errors"
	"fmt"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/telemetry"
	"github.com/trove-dbaas/trove/internal/workflow"
	"github.com/trove-dbaas/trove/store"
)

// Kept drops the data of before an upgrade that nobody confirmed: when its time has passed, and before it fills the volume.
type Kept struct{ cfg Config }

const (
	keptAtOnce = 1000 // of one look
	keptFull   = 90   // percent of the volume that may be used while data is kept
)

// Candidates returns instances with kept data, the oldest first.
func (k *Kept) Candidates(ctx context.Context) ([]string, error) {
	all, err := k.cfg.Store.AllKeptData(ctx, k.cfg.Clock.Now(), keptAtOnce)
	if err != nil {
		return nil, fmt.Errorf("look for kept data: %w", err)
	}
	ids := make([]string, 0, len(all))
	for n := range all {
		ids = append(ids, all[n].InstanceID)
	}
	return ids, nil
}

// why returns why the data is to be dropped, "" if it is not.
func (k *Kept) why(d *trove.KeptData, i *trove.Instance) string {
	age := k.cfg.Clock.Now().Sub(d.Since)
	switch g := i.Guest; {
	case k.cfg.KeepUpgraded > 0 && age >= k.cfg.KeepUpgraded:
		return fmt.Sprintf("it was kept for %s", k.cfg.KeepUpgraded)
	case g.VolumeTotal > 0 && g.VolumeUsed >= g.VolumeTotal/100*keptFull:
		return fmt.Sprintf("%d %% of the volume are used", keptFull)
	}
	return ""
}

// ReconcileOne asks for the confirmation of an upgrade whose time has come, if nothing else is under way. After an upgrade that failed the copy is all that
// there is, and stays.
func (k *Kept) ReconcileOne(ctx context.Context, id string) error {
	enqueued := false
	err := k.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		enqueued = false
		d, err := tx.KeptData(ctx, id)
		if err != nil {
			return err
		}
		i, err := tx.Instance(ctx, id)
		if err != nil {
			return err
		}
		why := k.why(&d, &i)
		if why == "" || d.Only(&i) || !shouldRun(&i) || i.ServerStatus != trove.ServerActive || i.Silent(k.cfg.Clock.Now()) {
			return nil
		}
		now := k.cfg.Clock.Now()
		_, err = workflow.Enqueue(ctx, tx, now, workflow.Request{
			Kind: trove.OpUpgradeConfirm, Target: id, ProjectID: i.ProjectID, RequestID: telemetry.NewRequestID(),
		})
		if err != nil {
			return err
		}
		enqueued = true
		return tx.AppendInstanceEvent(ctx, trove.InstanceEvent{
			InstanceID: id, At: now, Kind: trove.EventKeptDropped, Sentence: "The data of before the last upgrade is dropped: " + why + ".",
		})
	})
	switch {
	case errors.Is(err, store.ErrBusy), trove.IsNotFound(err):
		return nil // the next look goes on, or there is nothing left to do
	case err != nil:
		return fmt.Errorf("drop the kept data of %s: %w", id, err)
	case enqueued:
		k.cfg.Wake()
	}
	return nil
}
