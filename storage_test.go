package trove_test

import (
	"testing"

	trove "github.com/trove-dbaas/trove"
)

// TestStorageAlarmHasHysteresis walks a volume up and down: each mark is passed once, whatever it does about it.
func TestStorageAlarmHasHysteresis(t *testing.T) {
	alarm := trove.StorageOK
	for n, step := range []struct {
		used int64
		want trove.StorageAlarm
	}{
		{84, trove.StorageOK},
		{85, trove.StorageHigh},
		{84, trove.StorageHigh},
		{80, trove.StorageHigh},
		{79, trove.StorageOK},
		{84, trove.StorageOK},
		{97, trove.StorageFull},
		{96, trove.StorageFull},
		{95, trove.StorageFull},
		{94, trove.StorageHigh},
		{96, trove.StorageHigh},
		{97, trove.StorageFull},
		{10, trove.StorageOK},
	} {
		if alarm = alarm.Next(step.used, 100); alarm != step.want {
			t.Errorf("step %d, %d %%: the alarm is %q, want %q", n, step.used, alarm, step.want)
		}
	}
	if got := trove.StorageHigh.Next(0, 0); got != trove.StorageHigh {
		t.Errorf("a guest that did not measure changed the alarm to %q", got)
	}
}

func TestAutoscaleStep(t *testing.T) {
	for _, c := range []struct {
		a          trove.Autoscale
		size, want int
	}{
		{trove.Autoscale{StepGiB: 5, Max: 100}, 10, 15},
		{trove.Autoscale{StepGiB: 5, Max: 12}, 10, 12},
		{trove.Autoscale{StepGiB: 5, Max: 10}, 10, 10},
		{trove.Autoscale{StepGiB: 5, Max: 9}, 10, 10},
		{trove.Autoscale{StepPercent: 10, Max: 100}, 1, 2},
		{trove.Autoscale{StepPercent: 10, Max: 100}, 41, 46},
	} {
		if got := c.a.Next(c.size); got != c.want {
			t.Errorf("%+v from %d: %d, want %d", c.a, c.size, got, c.want)
		}
	}
}
