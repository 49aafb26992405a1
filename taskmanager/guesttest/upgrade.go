package guesttest

import (
	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestapi"
)

// checkUpgrade finds what Find said. The data has 1 MiB.
func (g *guest) checkUpgrade() (any, error) {
	g.fleet.mu.Lock()
	defer g.fleet.mu.Unlock()
	v := g.fleet.volumes[g.instance]
	if !v.Running {
		return nil, trove.Errorf(trove.KindUnavailable, "The database is not up.")
	}
	return guestapi.UpgradeCheck{Programs: v.Data, Data: v.Data, Findings: g.fleet.found, Bytes: 1 << 20}, nil
}

// FirstData and UpgradedData are the versions of data: a guest knows no image, and every upgrade leads to the same.
const (
	FirstData    = "first"
	UpgradedData = "upgraded"
)

// applyUpgrade returns what the commands around an upgrade do. Those that make or need a copy find it.
func (g *guest) applyUpgrade(r guestapi.Request) (func(*Volume), error) {
	var args guestapi.UpgradeArgs
	switch r.Command {
	case guestapi.CmdKeepData:
		return func(v *Volume) { v.Kept = v.Data }, nil
	case guestapi.CmdRestoreData:
		return func(v *Volume) {
			if v.Running, v.Stopped = false, true; v.Kept != "" {
				v.Data, v.Kept, v.Finished = v.Kept, "", 0
			}
		}, nil
	case guestapi.CmdDropKept:
		return func(v *Volume) { v.Kept = "" }, nil
	case guestapi.CmdFinishUpgrade:
		return func(v *Volume) { v.Finished++ }, nil
	}
	err := r.DecodeArgs(&args)
	return func(v *Volume) {
		v.Data, v.Settings = UpgradedData, args.ConfigureArgs
		v.Settings.Restart = false
		v.Running, v.Stopped = true, false
		v.Finished++
		g.engineStart++
	}, err //nolint:wrapcheck // the caller's own mistake
}
