package taskmanager

import (
	"testing"
	"time"

	"github.com/trove-dbaas/trove/cloud"
)

// TestNoStepEndsWithAShortOutage has a service of the cloud away for two minutes: no operation is undone for that.
func TestNoStepEndsWithAShortOutage(t *testing.T) {
	m := &Manager{usageTimeout: 30 * time.Minute, patience: cloud.Patience{
		Network: 5 * time.Minute, Volume: 10 * time.Minute, Boot: 10 * time.Minute, Resize: 15 * time.Minute, Look: time.Second,
	}}
	for _, d := range m.Definitions() {
		for _, s := range d.Steps {
			if s.Deadline > 0 && s.Deadline < outage {
				t.Errorf("%s gives the step %s %s, less than %s", d.Kind, s.Name, s.Deadline, outage)
			}
		}
	}
}
