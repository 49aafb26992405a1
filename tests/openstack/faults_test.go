package openstack_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// evidence collects the table for docs/evidence/openstack-faults.md, in the file that FAULTS_EVIDENCE names.
type evidence struct {
	t    *testing.T
	text strings.Builder
}

func newEvidence(t *testing.T) *evidence {
	e := &evidence{t: t}
	e.line("\n| operation | step | killed | outcome | seconds until then | left over |\n| --- | --- | --- | --- | --- | --- |")
	t.Cleanup(e.write)
	return e
}

func (e *evidence) line(format string, args ...any) {
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

// short are the crashes of the variant that takes no hour: around the things that take the cloud its time.
var short = []string{
	"instance.create/volume/after", "instance.create/machine/after", "instance.create/machine/waited", "instance.delete/machine/before", "instance.delete/volume/before",
}

// TestFaultsCrashWalk kills the taskmanager at the boundaries of the steps of create and delete: at each of them with LONG=1.
func TestFaultsCrashWalk(t *testing.T) {
	w := &walker{world: newWorld(t), steps: readSteps(t)}
	w.table = newEvidence(t)
	if os.Getenv("LONG") == "" {
		w.only = func(at string) bool { return slices.Contains(short, at) }
	}
	w.walk()
	w.table.line("\n%d crashes, the slowest recovery took %.1f s.", w.crashes, w.slowest.Seconds())
}
