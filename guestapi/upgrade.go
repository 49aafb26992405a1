package guestapi

import (
	"context"

	trove "github.com/trove-dbaas/trove"
)

// The commands for a change of datastore version, which came after the first release. The long ones want a database that was stopped with CmdStop; they
// come in this order, and the two ways on from CmdUpgrade end in one without kept data.
//
//	                    ┌── CmdRestoreData: the kept data is in use again
//	CmdKeepData ── CmdUpgrade
//	                    └── CmdDropKept: it is gone
const (
	CmdCheckUpgrade Command = "check-upgrade" // short: CheckUpgradeArgs → UpgradeCheck

	CmdKeepData    Command = "keep-data"    // copy the data, beside it
	CmdUpgrade     Command = "upgrade"      // UpgradeArgs: make the data one of this version's, start, and do what is left to do; only with kept data
	CmdRestoreData Command = "restore-data" // put the kept data back in place, if an upgrade may have touched it; without kept data nothing is done
	CmdDropKept    Command = "drop-kept"    // remove the kept data; without any nothing is done; the database may run

	// CmdFinishUpgrade is for a machine that got another image of the same version: what the running database needs then.
	CmdFinishUpgrade Command = "finish-upgrade"
)

// CheckUpgradeArgs says which version the database shall have.
type CheckUpgradeArgs struct {
	Version string `json:"version"`
}

// UpgradeCheck is what would fail, and what is worth knowing.
type UpgradeCheck struct {
	Programs string    `json:"programs"` // version of the programs that run
	Data     string    `json:"data"`     // version that the data was last started with
	Findings []Finding `json:"findings,omitempty"`
	Bytes    int64     `json:"bytes"`             // of the data
	Free     int64     `json:"free"`              // bytes on the volume
	Reflink  bool      `json:"reflink,omitempty"` // the copy takes no space until the data changes
}

// Finding is one of them.
type Finding struct {
	Blocks   bool   `json:"blocks,omitempty"`
	Sentence string `json:"sentence"`
}

// UpgradeArgs are the settings under the new version. Previous says that the root of the version that wrote the data is mounted beside the own.
type UpgradeArgs struct {
	ConfigureArgs
	Previous bool `json:"previous,omitempty"`
}

// maxFindings is how many findings a guest may have.
const maxFindings = 256

// CheckUpgrade asks what a change to another version would meet. It changes nothing. NotImplemented: the engine has no upgrades.
func (c *Client) CheckUpgrade(ctx context.Context, instance, version string) (UpgradeCheck, error) {
	var u UpgradeCheck
	if err := c.short(ctx, instance, CmdCheckUpgrade, CheckUpgradeArgs{Version: version}, &u); err != nil {
		return UpgradeCheck{}, err
	}
	if len(u.Findings) > maxFindings || u.Bytes < 0 || u.Free < 0 {
		return UpgradeCheck{}, trove.Errorf(trove.KindInternal, "The guest reported a check of an upgrade that is none.")
	}
	for n := range u.Findings {
		u.Findings[n].Sentence = CleanText(u.Findings[n].Sentence)
	}
	u.Programs, u.Data = CleanText(u.Programs), CleanText(u.Data)
	return u, nil
}
