package openstack_test

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
)

// evidence are tables for docs/evidence/openstack-faults.md. What is known is written to the file that FAULTS_EVIDENCE names line by line: a run that is broken off
// still tells what it saw.
type evidence struct {
	t    *testing.T
	file string

	mu   sync.Mutex
	text strings.Builder // where there is no file
}

func newEvidence(t *testing.T, head string) *evidence {
	e := &evidence{t: t, file: os.Getenv("FAULTS_EVIDENCE")}
	e.line("\n%s", head)
	if e.file == "" {
		t.Cleanup(func() { t.Log(e.text.String()) })
	}
	return e
}

func (e *evidence) line(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.file == "" {
		fmt.Fprintf(&e.text, format+"\n", args...)
		return
	}
	f, err := os.OpenFile(e.file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = fmt.Fprintf(f, format+"\n", args...)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		e.t.Error(err)
	}
}

// crash is a row of a walk.
func (e *evidence) crash(at, outcome string, took time.Duration, clean bool) {
	e.line("| %s | %s | %.1f | %s |", strings.ReplaceAll(at, "/", " | "), outcome, took.Seconds(), left(clean))
}

// left says what was left over.
func left(clean bool) string {
	if clean {
		return "nothing"
	}
	return "not as it should be"
}

// short are the crashes of the variant for CI: one before and one after each thing that a service makes or takes away.
var short = []string{
	"instance.create/volume/after", "instance.create/machine/after", "instance.create/network/undo-after",
	"instance.delete/machine/before", "instance.delete/volume/before",
	"instance.resize_flavor/machine/waited", "instance.resize_volume/volume/after",
}

// boundaryColumns are the columns of a walk over the boundaries of steps.
const boundaryColumns = "operation | step | killed | outcome | seconds until then | left over"

// newWalker is a world whose walks are written down under a heading.
func newWalker(t *testing.T, head, columns string) *walker {
	t.Helper()
	w := &walker{world: newWorld(t, ""), steps: readSteps(t)}
	w.table = newEvidence(t, fmt.Sprintf("## %s\n\n| %s |\n|%s", head, columns, strings.Repeat(" --- |", strings.Count(columns, "|")+1)))
	if os.Getenv("LONG") == "" {
		w.only = func(l leg) bool { return slices.Contains(short, l.at) }
	}
	if at := os.Getenv("WALK_AT"); at != "" { // for a look at some
		some := regexp.MustCompile(at)
		w.only = func(l leg) bool { return some.MatchString(l.at) }
	}
	return w
}

func (w *walker) sum() {
	w.table.line("\n%d crashes, the slowest recovery took %.1f s.", w.crashes, w.slowest.Seconds())
}

// TestFaultsCrashWalk kills the taskmanager at the boundaries of the steps of create, finished and undone, and of delete: at each of them with LONG=1.
func TestFaultsCrashWalk(t *testing.T) {
	w := newWalker(t, "The taskmanager killed in create and delete", boundaryColumns)
	w.walkCreates()
	w.sum()
}

// TestFaultsCrashWalkKept does the same in operations on an instance that lives on.
func TestFaultsCrashWalkKept(t *testing.T) {
	w := newWalker(t, "The taskmanager killed in operations on an instance that lives on", boundaryColumns)
	kinds := []string{trove.OpResizeVolume, trove.OpResizeFlavor}
	if os.Getenv("LONG") != "" {
		kinds = append(kinds, trove.OpRestart, trove.OpReboot, trove.OpRebuild, trove.OpStop, trove.OpUpdateAccess)
	}
	w.walkKept(kinds...)
	w.sum()
}
