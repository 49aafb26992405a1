package boundaries_test

import (
	"slices"
	"testing"

	"github.com/trove-dbaas/trove/tests/boundaries"
)

func TestBoundariesOfARestart(t *testing.T) {
	all, kinds, err := boundaries.Read("../..")
	if err != nil || len(kinds) != len(all) || kinds[0] != "instance.create" {
		t.Fatalf("the kinds are %v: %v", kinds, err)
	}
	restart := all["instance.restart"]
	there := restart.Forwards(map[string]bool{"instance.restart/restart": true})
	if want := []string{
		"instance.restart/mark/before", "instance.restart/mark/after", "instance.restart/restart/before", "instance.restart/restart/after", "instance.restart/restart/waited",
		"instance.restart/ready/before", "instance.restart/ready/after", "instance.restart/ready/closed",
	}; !slices.Equal(there, want) {
		t.Errorf("forwards: %q", there)
	}
	back := restart.Backwards()
	if want := []string{"instance.restart/restart/undo-before", "instance.restart/restart/undo-after", "instance.restart/restart/undo-closed"}; !slices.Equal(back, want) {
		t.Errorf("backwards: %q", back)
	}
	if restart.Last() != "instance.restart/ready" {
		t.Errorf("the last step is %s", restart.Last())
	}
}
