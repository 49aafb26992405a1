package hostnet

import (
	"net/netip"
	"path/filepath"

	trove "github.com/trove-dbaas/trove"
)

// Known is what is written down of a deployment's network.
type Known struct {
	HostAddress  netip.Addr   // as Net.HostAddress
	TenantSubnet netip.Prefix // as Net.TenantSubnet
}

// ReadKnown returns what is written down in the directory of the network's files, without a change to the machine: for processes that use the network and do not make it. It is Unavailable
// before the first Open.
func ReadKnown(dir string) (Known, error) {
	r, err := readRanges(deployment{files: filepath.Clean(dir)}.rangesFile())
	if err != nil {
		return Known{}, err
	}
	if !r.Management.IsValid() || !r.Tenant.IsValid() {
		return Known{}, trove.Errorf(trove.KindUnavailable, "The networks of %s are not there yet: trove-taskmanager makes them when it is started.", dir)
	}
	return Known{HostAddress: side{prefix: r.Management}.host(), TenantSubnet: r.Tenant}, nil
}
