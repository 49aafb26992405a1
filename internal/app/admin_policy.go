package app

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/trove-dbaas/trove/identity/policy"
	"github.com/trove-dbaas/trove/internal/config"
)

func policyPath(cfg config.Config) string {
	if filepath.IsAbs(cfg.API.PolicyFile) {
		return cfg.API.PolicyFile
	}
	return StateDir(cfg.State).Path(cfg.API.PolicyFile)
}

// checkPolicy looks for a file of rules that is not read, as after a move from a Trove with policy.json, and for one that cannot be.
func checkPolicy(cfg config.Config) CheckResult {
	r := CheckResult{Check: "Policy File JSON to YAML Migration", Detail: "Rules are read from " + policyPath(cfg) + "."}
	_, unreadable := policy.Load(policyPath(cfg))
	old := strings.TrimSuffix(policyPath(cfg), filepath.Ext(policyPath(cfg))) + ".json"
	_, gone := os.Stat(old)
	switch {
	case unreadable != nil:
		r.Level, r.Detail = CheckFailure, "The rules cannot be read: "+unreadable.Error()
	case gone == nil && old != policyPath(cfg):
		r.Level, r.Detail = CheckWarning, old+" is not read: rules are read from "+policyPath(cfg)+" alone."
	}
	return r
}
