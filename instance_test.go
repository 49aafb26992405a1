package trove_test

import (
	"strings"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
)

var now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// healthy is an instance that works.
func healthy() trove.Instance {
	return trove.Instance{
		ID: "i", Task: trove.TaskNone, ServerStatus: trove.ServerActive,
		Guest: trove.GuestState{Service: trove.ServiceHealthy, SeenAt: now.Add(-time.Second)},
	}
}

// TestStatus is section 2.1 and 2.2 of the status model, a row each.
func TestStatus(t *testing.T) {
	for _, c := range []struct {
		name      string
		change    func(*trove.Instance)
		backingUp bool
		status    string
		operating string
		allowed   bool
	}{
		{"healthy", func(*trove.Instance) {}, false, "ACTIVE", "HEALTHY", true},
		{"building", func(i *trove.Instance) { i.Task, i.ServerStatus = trove.TaskBuilding, trove.ServerNone }, false, "BUILD", "", false},
		{"building on a failed server", func(i *trove.Instance) { i.Task, i.ServerStatus = trove.TaskBuilding, trove.ServerError }, false, "ERROR", "", false},
		{"failed create", func(i *trove.Instance) { i.Task = trove.TaskBuildErrorVolume }, false, "ERROR", "", false},
		{"upgrading is no error", func(i *trove.Instance) { i.Task = trove.TaskUpgrading }, false, "UPGRADE", "", false},
		{"rebooting", func(i *trove.Instance) { i.Task = trove.TaskRebooting }, false, "REBOOT", "", false},
		{"resizing", func(i *trove.Instance) { i.Task = trove.TaskResizing }, false, "RESIZE", "", false},
		{"restart required", func(i *trove.Instance) { i.Task = trove.TaskRestartRequired }, false, "RESTART_REQUIRED", "", true},
		{"promoting", func(i *trove.Instance) { i.Task = trove.TaskPromoting }, false, "PROMOTE", "", false},
		{"ejecting", func(i *trove.Instance) { i.Task = trove.TaskEjecting }, false, "EJECT", "", false},
		{"detaching", func(i *trove.Instance) { i.Task = trove.TaskDetaching }, false, "DETACH", "", false},
		{"deleting", func(i *trove.Instance) { i.Task = trove.TaskDeleting }, false, "SHUTDOWN", "", false},
		{"deleting without a server", func(i *trove.Instance) { i.Task, i.ServerStatus = trove.TaskDeleting, trove.ServerNone }, false, "SHUTDOWN", "", false},
		{"deleting on a failed server", func(i *trove.Instance) { i.Task, i.ServerStatus = trove.TaskDeleting, trove.ServerError }, false, "ERROR", "", false},
		{"updating access", func(i *trove.Instance) { i.Task = trove.TaskUpdating }, false, "ACTIVE", "", false},
		{"backing up", func(*trove.Instance) {}, true, "BACKUP", "HEALTHY", false},
		{"verify resize", func(i *trove.Instance) { i.ServerStatus = trove.ServerVerifyResize }, false, "RESIZE", "", false},
		{"stopped for a month", func(i *trove.Instance) {
			i.ServerStatus, i.Guest.Service, i.Guest.SeenAt = trove.ServerShutdown, trove.ServiceShutdown, now.Add(-30*24*time.Hour)
		}, false, "SHUTDOWN", "SHUTDOWN", false},
		{"stopped, whatever the guest said last", func(i *trove.Instance) { i.ServerStatus = trove.ServerShutdown }, false, "SHUTDOWN", "SHUTDOWN", false},
		{"starting", func(i *trove.Instance) { i.Task, i.ServerStatus = trove.TaskRebooting, trove.ServerShutdown }, false, "REBOOT", "", false},
		{"deleting a stopped one", func(i *trove.Instance) { i.Task, i.ServerStatus = trove.TaskDeleting, trove.ServerShutdown }, false, "SHUTDOWN", "", false},
		{"shut off", func(i *trove.Instance) { i.ServerStatus = trove.ServerShutoff }, false, "UNKNOWN", "", false},
		{"crashed", func(i *trove.Instance) { i.Guest.Service = trove.ServiceCrashed }, false, "ACTIVE", "SHUTDOWN", true},
		{"blocked", func(i *trove.Instance) { i.Guest.Service = trove.ServiceBlocked }, false, "ACTIVE", "BLOCKED", true},
		{"new", func(i *trove.Instance) { i.Guest.Service = trove.ServiceNew }, false, "ACTIVE", "NEW", false},
		{"nonsense", func(i *trove.Instance) { i.Guest.Service = "dancing" }, false, "ACTIVE", "ERROR", false},
		{"silent", func(i *trove.Instance) { i.Guest.SeenAt = now.Add(-trove.HeartbeatExpiry - time.Second) }, false, "ACTIVE", "ERROR", true},
		{"silent until restarted", func(i *trove.Instance) { i.Guest.SeenAt, i.Guest.Service = time.Time{}, trove.ServiceRestartRequired }, false, "ACTIVE", "RESTART_REQUIRED", true},
	} {
		i := healthy()
		c.change(&i)
		if got := i.Status(c.backingUp); got != c.status {
			t.Errorf("%s: status %s, want %s", c.name, got, c.status)
		}
		if got := i.OperatingStatus(now); got != c.operating {
			t.Errorf("%s: operating status %q, want %q", c.name, got, c.operating)
		}
		err := i.CheckActionable(c.backingUp)
		if (err == nil) != c.allowed {
			t.Errorf("%s: actionable: %v, want allowed %v", c.name, err, c.allowed)
		}
		if err != nil && (trove.KindOf(err) != trove.KindUnprocessable || !strings.Contains(err.Error(), "i")) {
			t.Errorf("%s: error %v of kind %v", c.name, err, trove.KindOf(err))
		}
	}
}

// TestWhatAStoppedInstanceTakes: resizes and a start, no restart and no second stop; and the other way round.
func TestWhatAStoppedInstanceTakes(t *testing.T) {
	for _, c := range []struct {
		name                   string
		change                 func(*trove.Instance)
		changes, stops, starts bool
	}{
		{"running", func(*trove.Instance) {}, true, true, false},
		{"with an engine that does not answer", func(i *trove.Instance) { i.Guest.Service = trove.ServiceUnknown }, false, true, false},
		{"with a restart due", func(i *trove.Instance) { i.Task = trove.TaskRestartRequired }, true, true, false},
		{"stopped", func(i *trove.Instance) { i.ServerStatus = trove.ServerShutdown }, true, false, true},
		{"being started", func(i *trove.Instance) { i.ServerStatus, i.Task = trove.ServerShutdown, trove.TaskRebooting }, false, false, false},
		{"being deleted", func(i *trove.Instance) { i.ServerStatus, i.Task = trove.ServerShutdown, trove.TaskDeleting }, false, false, false},
		{"being resized", func(i *trove.Instance) { i.Task = trove.TaskResizing }, false, false, false},
		{"failed", func(i *trove.Instance) { i.Task, i.ServerStatus = trove.TaskBuildErrorServer, trove.ServerNone }, false, false, false},
	} {
		i := healthy()
		c.change(&i)
		for what, check := range map[string]struct {
			err  error
			want bool
		}{
			"change": {i.CheckChangeable(false), c.changes}, "stop": {i.CheckStoppable(false), c.stops}, "start": {i.CheckStartable(), c.starts},
		} {
			if (check.err == nil) != check.want || check.err != nil && trove.KindOf(check.err) != trove.KindUnprocessable {
				t.Errorf("%s: %s: %v, want allowed %v", c.name, what, check.err, check.want)
			}
		}
	}
}

func TestEveryTaskHasAWord(t *testing.T) {
	for task := trove.TaskNone; task <= trove.TaskGuestRevoked; task++ {
		if task.Action() == "" {
			t.Errorf("task %#x has no word", int(task))
		}
	}
}
