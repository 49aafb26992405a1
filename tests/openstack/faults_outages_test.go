package openstack_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
)

// daemons are what a service's interface consists of in the lab.
var daemons = map[string]string{
	"Keystone": "keystone", "Nova": "nova-api", "Cinder": "cinder-api", "Neutron": "neutron-server", "Glance": "glance-api", "Swift": "swift-proxy",
}

// outage is a service that goes away in the middle of an operation.
type outage struct {
	service, kind string
	// names are the services that the sentence may name: one that cannot do its work without the one that is away says so in its own answer.
	names []string
}

// outages of the variant for CI come first; those behind stand only with LONG=1.
var outages = []outage{
	{service: "Keystone", kind: trove.OpCreate},
	{service: "Nova", kind: trove.OpCreate},
	{service: "Cinder", kind: trove.OpCreate},
	{service: "Neutron", kind: trove.OpCreate},
	{service: "Swift", kind: trove.OpDelete},
	{service: "Nova", kind: trove.OpResizeFlavor},
	{service: "Cinder", kind: trove.OpResizeVolume},
	{service: "Neutron", kind: trove.OpDelete},
	{service: "Cinder", kind: trove.OpDelete},
	{service: "Nova", kind: trove.OpDelete},
	{service: "Keystone", kind: trove.OpDelete},
}

const (
	manyShort    = 5
	shortOutage  = 15 * time.Second
	longOutage   = 2 * time.Minute
	afterOutage  = 20 * time.Second // until an operation that waited goes on, at most; its retries are 10 s apart
	lookInOutage = 500 * time.Millisecond
)

// TestFaultsOutages takes services away, one at a time, in the middle of operations: each waits, says for whom, and goes on when the service is back. With LAB_ALONE
// or LAB_STOPS the services' daemons are stopped; on a lab that is shared, our processes cannot reach them.
func TestFaultsOutages(t *testing.T) {
	w, long := newWorld(t, ""), os.Getenv("LONG") != ""
	table := newEvidence(t, "## A service of the cloud goes away\n\n| service | operation | away, seconds | what the operation said | seconds from its return to the end | left over |\n| --- | --- | --- | --- | --- | --- |")
	all, away := outages[:manyShort], shortOutage
	if long {
		all, away = outages, longOutage
	}
	if only := os.Getenv("OUTAGE"); only != "" { // for a look at one
		all = slices.DeleteFunc(slices.Clone(all), func(o outage) bool { return o.service != only })
	}
	for _, o := range all {
		t.Run(o.service+"_"+strings.TrimPrefix(o.kind, "instance."), func(t *testing.T) {
			defer w.within(t)()
			said, took := w.meetsOutage(o, away)
			table.line("| %s | %s | %.0f | %s | %.1f | nothing |", o.service, o.kind, away.Seconds(), said, took.Seconds())
		})
	}
}

// meetsOutage has an operation meet an outage. It returns what the operation said meanwhile, and how long after it it ended.
func (w *world) meetsOutage(o outage, away time.Duration) (said string, took time.Duration) {
	w.t.Helper()
	empty := w.inventory()
	id := ""
	if o.kind != trove.OpCreate {
		id = w.create(w.spec("outage"))
		if op := w.ends(id, trove.OpCreate); op.State != "done" {
			w.t.Fatalf("create: %s %s", op.State, op.Error)
		}
	}
	begun := w.takeAwayAt(o.service)
	defer w.back(o.service)
	id = w.begin(o.kind, id)
	select {
	case <-begun:
	case <-time.After(longest):
		w.t.Fatalf("%s asked %s for nothing", o.kind, o.service)
	}
	said = w.waits(id, o, away)
	returned := time.Now()
	w.back(o.service)
	if o.kind == trove.OpDelete {
		w.gone(id)
	} else if op := w.ends(id, o.kind); op.State != "done" {
		w.t.Fatalf("%s ended %s: %s", o.kind, op.State, op.Error)
	}
	took = time.Since(returned)
	w.t.Logf("%s: %s; done %.1f s after", o.service, said, took.Seconds())
	if o.kind != trove.OpDelete {
		w.remove(id)
	}
	w.same(o.service+" was away", empty)
	return said, took
}

// begin asks for an operation.
func (w *world) begin(kind, id string) string {
	w.t.Helper()
	var err error
	switch kind {
	case trove.OpCreate:
		return w.create(w.spec("outage"))
	case trove.OpDelete:
		err = w.client.DeleteInstance(w.t.Context(), id)
	case trove.OpResizeFlavor:
		err = w.client.ResizeFlavor(w.t.Context(), id, w.things.large)
	case trove.OpResizeVolume:
		err = w.client.ResizeVolume(w.t.Context(), id, 2)
	}
	if err != nil {
		w.t.Fatalf("%s: %v", kind, err)
	}
	return id
}

// takeAwayAt takes a service away as soon as the taskmanager asks it for a change, before it gets the request; Keystone as soon as any service is asked, whose
// answer is then that the token has ended. Reading alone does not count: reconcilers do that all the time.
func (w *world) takeAwayAt(service string) (begun chan struct{}) {
	begun = make(chan struct{})
	var once sync.Once
	p := w.proxies["taskmanager"]
	p.on(func(c call) {
		if c.changes() && (c.Service == service || service == "Keystone") || service == "Swift" && c.Service == service {
			once.Do(func() {
				w.away(service)
				close(begun)
			})
		}
	}, nil)
	return begun
}

// away takes a service away.
func (w *world) away(service string) {
	if service == "Keystone" {
		w.proxies["taskmanager"].endTokens()
	}
	if w.stops {
		w.daemon("stop", daemons[service])
		return
	}
	for _, p := range w.proxies {
		p.takeAway(service, true)
	}
}

// back gives it back.
func (w *world) back(service string) {
	w.proxies["taskmanager"].on(nil, nil)
	if w.stops {
		w.daemon("start", daemons[service])
	}
	for _, p := range w.proxies {
		p.takeAway(service, false)
	}
}

// daemon stops or starts a daemon of the lab.
func (w *world) daemon(what, daemon string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.t.Context()), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(repository, "tests", "openstack", "lab", "lab"), what, daemon)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "LAB_STATE=" + state}
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Errorf("lab %s %s: %v\n%s", what, daemon, err, out)
	}
}

// waits watches an operation during the outage: it does not end, and its sentence names the service. The API answers all the time.
func (w *world) waits(id string, o outage, away time.Duration) string {
	w.t.Helper()
	said, slowest := "", time.Duration(0)
	for end := time.Now().Add(away); time.Now().Before(end); time.Sleep(lookInOutage) {
		asked := time.Now()
		op, ok := w.newest(id)
		slowest = max(slowest, time.Since(asked))
		if !ok {
			w.t.Errorf("the API does not tell the operations of the instance while %s is away", o.service)
			continue
		}
		if op.State != string(trove.OperationOpen) {
			w.t.Fatalf("%s did not wait for %s: it ended %s: %s", o.kind, o.service, op.State, op.Error)
		}
		if strings.Contains(op.Sentence, o.service) {
			said = op.Sentence
		}
	}
	if said == "" {
		op, _ := w.newest(id)
		w.t.Errorf("%s waits and does not say that it is for %s: %q, %s", o.kind, o.service, op.Sentence, eventsOf(op))
	}
	if slowest > 2*time.Second {
		w.t.Errorf("the API took %s for an answer while %s was away", slowest, o.service)
	}
	return said
}

func eventsOf(op wire.Operation) string {
	var b strings.Builder
	for _, e := range op.Events {
		b.WriteString("\n  " + e.Step + " " + e.Outcome + " " + e.Sentence)
	}
	return b.String()
}
