package trove_test

import (
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
)

func TestStatesOfBackups(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for state, want := range map[trove.BackupState]struct{ running, usable bool }{
		trove.BackupNew: {true, false}, trove.BackupBuilding: {true, false}, trove.BackupSaving: {true, false}, trove.BackupCompleted: {false, true},
		trove.BackupRestored: {false, true}, trove.BackupFailed: {}, trove.BackupDeleteFailed: {},
	} {
		b := trove.Backup{State: state, Updated: now}
		if state.Running() != want.running || state.Usable() != want.usable || b.Busy(now) != want.running {
			t.Errorf("%s: running %v, usable %v, busy %v", state, state.Running(), state.Usable(), b.Busy(now))
		}
		if b.Busy(now.Add(trove.BackupExpiry)) {
			t.Errorf("%s: busy for ever", state)
		}
	}
}

func TestTasksOfClusters(t *testing.T) {
	for task := trove.ClusterNone; task <= trove.ClusterUpdating; task++ {
		if task.Name() == "" || task.Description() == "" {
			t.Errorf("task %d has no words", task)
		}
		c := trove.Cluster{Task: task}
		err := c.CheckIdle(trove.ClusterDeleting)
		if idle := task == trove.ClusterNone || task == trove.ClusterDeleting; (err == nil) != idle || !idle && trove.KindOf(err) != trove.KindUnprocessable {
			t.Errorf("%s: %v", task.Name(), err)
		}
	}
	if trove.ClusterTask(99).Name() != "" {
		t.Error("a code that is none has a name")
	}
}
