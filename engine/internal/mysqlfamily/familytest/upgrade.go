package familytest

import (
	"testing"

	"github.com/trove-dbaas/trove/engine/enginetest"
)

// RunUpgrades takes data over from each older version that is at hand.
func (c Case) RunUpgrades(t *testing.T, older enginetest.OlderProgram) {
	t.Helper()
	version, _, err := c.New().Versions(t.Context(), c.layout(t))
	if err != nil {
		t.Fatal(err)
	}
	enginetest.RunUpgrades(t, version, older, func(t *testing.T) enginetest.Setup { return c.setup(t) })
}
