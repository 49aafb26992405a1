package app_test

import (
	"testing"

	"github.com/trove-dbaas/trove/internal/deptest"
)

const program = "github.com/trove-dbaas/trove/cmd/trove"

func TestControllersLinkNoTestCode(t *testing.T) {
	const trove = "github.com/trove-dbaas/trove"
	deptest.MustNotLink(t, program, deptest.Reasons{
		"testing":                    "test code is in tests",
		trove + "/cloud/fake":        "a fake cloud makes nothing",
		trove + "/engine/fake":       "a fake engine stores nothing",
		trove + "/bus/membus":        "guests are other processes",
		trove + "/guestagent":        "it runs in guests",
		trove + "/internal/guestapp": "it wires the guest's program",
	})
}

func TestLinkedModules(t *testing.T) { deptest.Modules(t, program, "modules.txt") }
