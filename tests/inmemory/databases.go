package inmemory

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/engine"
	enginefake "github.com/trove-dbaas/trove/engine/fake"
	"github.com/trove-dbaas/trove/engine/mariadb"
	"github.com/trove-dbaas/trove/internal/clock"
)

// NetworkID is the network of Databases that listen.
const NetworkID = "55555555-5555-4555-8555-555555555555"

// Engine is a driver whose databases can be configured.
type Engine interface {
	engine.Engine
	engine.Configurable
}

// Databases are what runs on the machines of a deployment.
type Databases struct {
	New      func() Engine
	UID      int                   // the account, and the group, that they run as
	Networks []cloud.TenantNetwork // where they listen; none: nowhere
	Public   string                // the range of public addresses, of 16 bits like the first network; "": there are none
}

// fakes are databases that are not there.
func fakes() Databases {
	return Databases{New: func() Engine { return enginefake.New() }, UID: os.Getuid()}
}

// MariaDB is the server of Debian's package mariadb-server on loopback addresses of the ranges, as an account that owns nothing. It needs root.
func MariaDB(private, public string) Databases {
	return Databases{
		New:      func() Engine { return mariadb.New(slog.New(slog.DiscardHandler), clock.System{}) },
		UID:      65534,
		Networks: []cloud.TenantNetwork{{ID: NetworkID, Name: "default", Subnets: []cloud.Subnet{{ID: "55555555-5555-4555-8555-555555555556", CIDR: private}}}},
		Public:   public,
	}
}

// address is where the database of an instance listens, "" for one that does not.
func (g *Guests) address(instance string) string {
	if len(g.databases.Networks) == 0 {
		return ""
	}
	n, err := g.networks.FindNetwork(context.Background(), instance)
	if err != nil || len(n.Addresses) == 0 {
		return "192.0.2.1" // no machine has it: the start of the database says so
	}
	return n.Addresses[0].Address
}

// folders makes the volume and the memory of a machine, as the account of its database may go through them.
func (g *Guests) folders(l engine.Layout) error {
	var errs []error
	for _, d := range []struct {
		path string
		perm os.FileMode
	}{{g.dir, 0o711}, {l.Data, 0o755}, {l.State, 0o700}, {l.Runtime, 0o711}} {
		errs = append(errs, os.MkdirAll(d.path, d.perm), os.Chmod(d.path, d.perm))
	}
	return errors.Join(errs...)
}
