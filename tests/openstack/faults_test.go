package openstack_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
)

// evidence collects the tables for docs/evidence/openstack-faults.md, in the file that FAULTS_EVIDENCE names.
type evidence struct {
	mu   sync.Mutex
	t    *testing.T
	text strings.Builder
}

func newEvidence(t *testing.T, head string) *evidence {
	e := &evidence{t: t}
	e.text.WriteString("\n" + head + "\n")
	t.Cleanup(e.write)
	return e
}

func (e *evidence) line(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	fmt.Fprintf(&e.text, format+"\n", args...)
}

// crash is a row of a walk. It is written when nothing was found left over.
func (e *evidence) crash(at, outcome string, took time.Duration) {
	parts := strings.Split(at, "/")
	left := "nothing"
	if e.t.Failed() {
		left = "see the log"
	}
	e.line("| %s | %s | %s | %s | %.1f | %s |", parts[0], parts[1], parts[2], outcome, took.Seconds(), left)
}

func (e *evidence) write() {
	name := os.Getenv("FAULTS_EVIDENCE")
	if name == "" || e.t.Failed() {
		e.t.Log(e.text.String())
		return
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = f.WriteString(e.text.String())
		_ = f.Close()
	}
	if err != nil {
		e.t.Error(err)
	}
}

// short are the crashes of the variant for CI: one before and one after each thing that a service makes or takes away.
var short = []string{
	"instance.create/volume/after", "instance.create/machine/after", "instance.create/network/undo-after",
	"instance.delete/machine/before", "instance.delete/volume/before",
	"instance.resize_flavor/machine/waited", "instance.resize_volume/volume/after",
}

// newWalker is a world whose walks are written down under a heading.
func newWalker(t *testing.T, head string) *walker {
	t.Helper()
	w := &walker{world: newWorld(t, ""), steps: readSteps(t)}
	w.table = newEvidence(t, "## "+head+"\n\n| operation | step | killed | outcome | seconds until then | left over |\n| --- | --- | --- | --- | --- | --- |")
	if os.Getenv("LONG") == "" {
		w.only = func(l leg) bool { return slices.Contains(short, l.at) }
	}
	if at := os.Getenv("WALK_AT"); at != "" { // for a look at some
		w.only = func(l leg) bool { return strings.Contains(l.at, at) }
	}
	return w
}

func (w *walker) sum() {
	w.table.line("\n%d crashes, the slowest recovery took %.1f s.", w.crashes, w.slowest.Seconds())
}

// TestFaultsCrashWalk kills the taskmanager at the boundaries of the steps of create, finished and undone, and of delete: at each of them with LONG=1.
func TestFaultsCrashWalk(t *testing.T) {
	w := newWalker(t, "The taskmanager killed in create and delete")
	w.walkCreates()
	w.sum()
}

// TestFaultsCrashWalkKept does the same in operations on an instance that lives on.
func TestFaultsCrashWalkKept(t *testing.T) {
	w := newWalker(t, "The taskmanager killed in operations on an instance that lives on")
	w.walkKept(trove.OpResizeFlavor, trove.OpResizeVolume)
	if os.Getenv("LONG") != "" {
		w.walkKept(trove.OpRestart, trove.OpStop, trove.OpStart)
	}
	w.sum()
}
