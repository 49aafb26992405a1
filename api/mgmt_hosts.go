package api

import (
	"context"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
)

// hostsOf returns the hosts of the machines of instances, with one question where the cloud answers one for several. A cloud that does not answer keeps nobody from seeing the
// rest: then hosts are not known.
func (s *server) hostsOf(ctx context.Context, all ...trove.Instance) map[string]string {
	var ids []string
	for n := range all {
		if all[n].ComputeID != "" && all[n].DeletedAt.IsZero() {
			ids = append(ids, all[n].ID)
		}
	}
	p, ok := s.cfg.Catalog.(cloud.Placement)
	if !ok || len(ids) == 0 {
		return nil
	}
	hosts, err := map[string]string{}, error(nil)
	if many, ok := p.(cloud.PlacementOfMany); ok {
		hosts, err = many.MachineHosts(ctx, ids)
	} else {
		for _, id := range ids {
			if hosts[id], err = p.MachineHost(ctx, id); err != nil {
				break
			}
		}
	}
	if err != nil {
		s.cfg.Log.WarnContext(ctx, "cloud did not say where machines are", "instances", len(ids), "err", err)
	}
	return hosts
}
