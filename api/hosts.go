package api

import (
	"context"
	"fmt"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/cloud"
)

// hostStatus says how full the machines are. It is not in Trove.
func (s *server) hostStatus(ctx context.Context, _ *call) (any, error) {
	hosts, ok := s.cfg.Catalog.(cloud.Hosts)
	if !ok {
		return nil, trove.Errorf(trove.KindNotImplemented, "The machines of this cloud are not this service's: it does not know how full they are.")
	}
	all, err := hosts.Hosts(ctx)
	if err != nil {
		return nil, fmt.Errorf("measure the hosts: %w", err)
	}
	out := wire.HostList{Hosts: make([]wire.Host, len(all))}
	for n, h := range all {
		out.Hosts[n] = wire.Host{
			Name: h.Name, Memory: wire.Amount(h.Memory), Cores: wire.Amount(h.Cores), Volumes: wire.Amount(h.Volumes), Addresses: wire.Amount(h.Addresses),
			Pool: wire.HostPool(h.Pool), Running: h.Running, Stopped: h.Stopped, Down: h.Down, Loops: h.Loops, Warnings: []wire.HostWarning{},
		}
		for _, w := range h.Warnings {
			out.Hosts[n].Warnings = append(out.Hosts[n].Warnings, wire.HostWarning(w))
		}
	}
	return &out, nil
}
