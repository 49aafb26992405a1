package local

import (
	"context"
	"fmt"
	"os"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
)

var _, _ cloud.Placement = (*Provider)(nil), (*Catalog)(nil)

// MachineHost is cloud.Placement.MachineHost: this machine.
func (p *Provider) MachineHost(ctx context.Context, instance string) (string, error) {
	if _, err := p.FindMachine(ctx, instance); trove.IsNotFound(err) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	return thisHost()
}

// Migratable is cloud.Placement.Migratable: never.
func (*Provider) Migratable(context.Context, string) error { return oneHost() }

// MachineHost is cloud.Placement.MachineHost. A process that makes nothing does not look whether the machine is there.
func (*Catalog) MachineHost(context.Context, string) (string, error) { return thisHost() }

// Migratable is cloud.Placement.Migratable: never.
func (*Catalog) Migratable(context.Context, string) error { return oneHost() }

func oneHost() error {
	return trove.Permanent(trove.Errorf(trove.KindNotImplemented, "The local cloud has one host: there is no other that the machine could be moved to."))
}

func thisHost() (string, error) {
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("read the host's name: %w", err)
	}
	return name, nil
}
