package openstack_test

import (
	"fmt"
	"os"
	"regexp"
	"sync/atomic"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
	"github.com/trove-dbaas/trove/tests/openstack"
)

// TestFaultsCrashWalkAnswers kills the taskmanager inside its steps: when a request that changes something in the cloud was carried out, and before the answer was read. Nobody
// has noted then what is there, and it must be found again. Each request of create, delete and the resizes is met with LONG=1, else every fourth.
func TestFaultsCrashWalkAnswers(t *testing.T) {
	w := newWalker(t, "The taskmanager killed before it has read an answer", "operation | answer of | outcome | seconds until then | left over")
	stride := 4
	if os.Getenv("LONG") != "" {
		stride = 1
	}
	empty := w.inventory()
	w.loseInCreates(stride, empty)
	id := w.createWhole("answers")
	w.whole("before all", id)
	there := w.inventory()
	for _, kind := range []string{trove.OpResizeVolume, trove.OpResizeFlavor} {
		for n, more := 1, true; more; n += stride {
			more = w.loseInKept(n, kind, id, there)
		}
	}
	w.remove(id)
	w.nothing("after all", empty)
	w.sum()
}

// loseInCreates meets the requests of create, and those of delete by turns.
func (w *walker) loseInCreates(stride int, empty openstack.Inventory) {
	w.t.Helper()
	creating, deleting := true, true
	for n := 1; creating || deleting; n += stride {
		var id string
		if name := fmt.Sprintf("answer-%d", n); creating {
			creating = w.loses(n, trove.OpCreate, func() string { id = w.create(w.spec(name)); return id }, func(l leg, op wire.Operation) bool {
				return w.made(l, id, op, empty)
			})
		} else {
			id = w.createWhole(name)
		}
		if !deleting {
			w.remove(id)
			continue
		}
		deleting = w.loses(n, trove.OpDelete, func() string {
			if err := w.client.DeleteInstance(w.t.Context(), id); err != nil {
				w.t.Fatal(err)
			}
			return id
		}, func(l leg, _ wire.Operation) bool { return w.nothing(l.at, empty) })
	}
}

// loseInKept meets a request of an operation on an instance that is kept, and returns false if the operation has no such request.
func (w *walker) loseInKept(n int, kind, id string, there openstack.Inventory) bool {
	w.t.Helper()
	i := w.instance(id)
	return w.loses(n, kind, func() string {
		if err := asks[kind](w, i); err != nil {
			w.t.Fatal(err)
		}
		return id
	}, func(l leg, op wire.Operation) bool {
		now := w.instance(id)
		good := op.State == "done" && now.Status == "ACTIVE"
		if !good {
			w.t.Errorf("%s: the operation ended %s (%s), the instance is %s; its fault is %+v", l.at, op.State, op.Error, now.Status, now.Fault)
		}
		good = w.asSaid(l, i, now) && good
		good = w.books(l.at, now) && good
		return w.same(l.at, there) && good
	})
}

// loses kills the taskmanager before it has read the answer to the n-th change of what is asked for, starts it again, and has the end of the operation checked. It returns
// false if there are fewer changes.
func (w *walker) loses(n int, kind string, ask func() (id string), check func(leg, wire.Operation) bool) bool {
	w.t.Helper()
	p, answers, lost := w.service.runs["taskmanager"], w.proxies["taskmanager"], make(chan call, 1)
	var seen atomic.Int64
	answers.on(nil, func(c call) {
		if !c.changes() || seen.Add(1) != int64(n) {
			return
		}
		_ = p.cmd.Process.Kill()
		<-p.done
		lost <- c
	})
	id := ask()
	eventually(w.t, longest, kind+" to end or to be killed", func() bool { return !w.service.running("taskmanager") || w.ended(kind, id) })
	answers.on(nil, nil)
	if w.service.running("taskmanager") && len(lost) == 0 {
		return false
	}
	c := <-lost
	l := leg{kind: kind, at: kind + ", " + inShort(c)}
	w.t.Logf("%s %d: %s", hour(), n, l.at)
	w.again(l.at)
	eventually(w.t, longest, kind+" to end", func() bool { return w.ended(kind, id) })
	took := w.recovered()
	op := wire.Operation{State: "done"}
	if kind == trove.OpDelete {
		w.guests.forget(id)
	} else {
		op = w.ends(id, kind)
	}
	w.table.line("| %s | %s | %s | %.1f | %s |", kind, inShort(c), op.State, took.Seconds(), left(check(l, op)))
	return true
}

// ended reports whether an operation has ended; that of a delete is not shown any more then.
func (w *walker) ended(kind, id string) bool {
	if kind == trove.OpDelete {
		_, err := w.client.Instance(w.t.Context(), id)
		return client.IsNotFound(err)
	}
	op, ok := w.newest(id)
	return ok && op.Kind == kind && op.State != string(trove.OperationOpen)
}

// names are the parts of a request's path that differ from run to run, and those that say nothing.
var (
	names    = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	versions = regexp.MustCompile(`^/v[0-9.]+(/[0-9a-f]{32})?`)
)

// inShort is a request in few words.
func inShort(c call) string {
	return c.Service + " " + c.Method + " " + names.ReplaceAllString(versions.ReplaceAllString(c.Path, ""), "ID")
}
