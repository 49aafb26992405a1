package guestapi

import (
	"context"
	"encoding/json"

	trove "github.com/trove-dbaas/trove"
)

// CmdApplyConfiguration changes parameters of the running engine; it came after the first release.
const CmdApplyConfiguration Command = "apply-configuration" // ApplyConfigurationArgs → ConfigurationApplied

// ApplyConfigurationArgs are all overrides that the engine shall have, and the only ones.
type ApplyConfigurationArgs struct {
	// Revision orders the attempts to tell a guest: one that is older than what the guest has heard is Conflict.
	Revision  int64                      `json:"revision"`
	Overrides map[string]json.RawMessage `json:"overrides"`
}

// ConfigurationApplied says what the running engine does not have yet.
type ConfigurationApplied struct {
	Restart []string `json:"restart,omitempty"` // parameters whose value the next start brings
}

// maxParameters is how many parameters a guest may name.
const maxParameters = 4096

// ApplyConfiguration makes the overrides hold: at once those that the engine can change while it runs. BadRequest: the engine refuses one, and
// nothing has changed.
func (c *Client) ApplyConfiguration(ctx context.Context, instance string, args ApplyConfigurationArgs) (ConfigurationApplied, error) {
	var done ConfigurationApplied
	if err := c.short(ctx, instance, CmdApplyConfiguration, args, &done); err != nil {
		return ConfigurationApplied{}, err
	}
	bad := len(done.Restart) > maxParameters
	for _, p := range done.Restart {
		bad = bad || !visible(p, maxOpID)
	}
	if bad {
		return ConfigurationApplied{}, trove.Errorf(trove.KindInternal, "The guest reported parameters that are none.")
	}
	return done, nil
}
