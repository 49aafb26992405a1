package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/store"
)

// The defaults of an autoscale that leaves something out.
const (
	defaultThreshold   = 80
	defaultStepPercent = 10
)

func storageOperations() []Operation {
	const path = "/instances/{instance}/storage"
	return []Operation{
		{
			ID: "showStorage", Method: http.MethodGet, Path: path, Rule: "instance:show", Extension: true,
			Summary: "Show how full the data volume is, its alarm, and whether it grows by itself.",
			Success: http.StatusOK, Response: wire.StorageBody{}, handle: (*server).showStorage,
		},
		{
			ID: "setAutoscale", Method: http.MethodPut, Path: path + "/autoscale", Rule: "instance:resize_volume", Schema: "storage-autoscale.json", Extension: true,
			Summary: "Let the data volume grow by itself before it is full: from threshold percent on (80) by step GiB or step_percent percent (10) of its size, up to max GiB, within the project's quota.",
			Success: http.StatusOK, Response: wire.StorageBody{}, handle: (*server).setAutoscale,
		},
		{
			ID: "deleteAutoscale", Method: http.MethodDelete, Path: path + "/autoscale", Rule: "instance:resize_volume", Extension: true,
			Summary: "Let the data volume grow by itself no more. May be repeated.", Success: http.StatusNoContent, handle: (*server).deleteAutoscale,
		},
	}
}

func (s *server) showStorage(_ context.Context, c *call) (any, error) {
	if c.instance.VolumeSize == 0 {
		return nil, noVolume(c.instance.ID)
	}
	return viewStorage(&c.instance), nil
}

func noVolume(id string) error {
	return trove.Errorf(trove.KindBadRequest, "Instance %s does not have a volume.", id)
}

func viewStorage(i *trove.Instance) *wire.StorageBody {
	st := &i.Storage
	out := wire.Storage{Size: i.VolumeSize, Alarm: string(st.Alarm), Refusal: st.Refusal}
	var usage wire.Volume
	addUsage(&usage, i, "")
	out.Used, out.UsedPercent = usage.Used, usage.UsedPercent
	if st.Alarm != trove.StorageOK {
		since := wire.Time(st.Since)
		out.AlarmSince = &since
	}
	if !st.Tried.IsZero() {
		tried := wire.Time(st.Tried)
		out.LastAttempt = &tried
	}
	if a := st.Autoscale; a != nil {
		out.Autoscale = &wire.Autoscale{Threshold: a.Threshold, Step: a.StepGiB, StepPercent: a.StepPercent, Max: a.Max}
	}
	return &wire.StorageBody{Storage: out}
}

// number returns a whole number, the other one if it is absent. The schema has checked it.
func (o object) number(key string, other int) int {
	n, ok := o[key].(json.Number)
	if !ok {
		return other
	}
	v, err := n.Int64()
	if err != nil {
		f, _ := n.Float64() // 5.0 is a whole number too
		return int(f)
	}
	return int(v)
}

func (s *server) setAutoscale(ctx context.Context, c *call) (any, error) {
	want := c.body.obj("autoscale")
	a := trove.Autoscale{
		Threshold: want.number("threshold", defaultThreshold), StepGiB: want.number("step", 0), StepPercent: want.number("step_percent", 0),
		Max: want.number("max", 0),
	}
	switch {
	case a.StepGiB > 0 && a.StepPercent > 0:
		return nil, bad("Give either step or step_percent.")
	case a.StepGiB == 0 && a.StepPercent == 0:
		a.StepPercent = defaultStepPercent
	}
	if s.cfg.MaxVolumeSize > 0 && a.Max > s.cfg.MaxVolumeSize {
		return nil, bad("The max of %d GiB is above the largest volume that there may be, %d GiB.", a.Max, s.cfg.MaxVolumeSize)
	}
	return s.changeStorage(ctx, c, func(i *trove.Instance) error {
		if a.Max <= i.VolumeSize {
			return bad("The max of %d GiB must be larger than the current volume size of %d GiB.", a.Max, i.VolumeSize)
		}
		if i.Storage.Refusal != "" { // it was refused under other terms: it is tried again at once
			i.Storage.Refusal, i.Storage.Tried = "", time.Time{}
		}
		i.Storage.Autoscale = &a
		return nil
	})
}

func (s *server) deleteAutoscale(ctx context.Context, c *call) (any, error) {
	_, err := s.changeStorage(ctx, c, func(i *trove.Instance) error {
		i.Storage.Autoscale, i.Storage.Refusal = nil, ""
		return nil
	})
	return nil, err
}

func (s *server) changeStorage(ctx context.Context, c *call, change func(i *trove.Instance) error) (any, error) {
	var changed trove.Instance
	err := s.cfg.Store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		return tx.UpdateInstance(ctx, c.instance.ID, s.cfg.Clock.Now(), func(i *trove.Instance) error {
			if i.VolumeSize == 0 {
				return noVolume(i.ID)
			}
			err := change(i)
			changed = *i
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("change the storage: %w", err)
	}
	return viewStorage(&changed), nil
}
