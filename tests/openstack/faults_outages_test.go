package openstack_test

import (
	"context"
	"net/http"
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
	"github.com/trove-dbaas/trove/client"
	enginedriver "github.com/trove-dbaas/trove/engine"
	enginefake "github.com/trove-dbaas/trove/engine/fake"
)

// daemons are what a service's interface consists of in the lab.
var daemons = map[string]string{
	"Keystone": "keystone", "Nova": "nova-api", "Cinder": "cinder-api", "Neutron": "neutron-server", "Glance": "glance-api", "Swift": "swift-proxy",
}

// outage is a service that goes away while operations are under way which need it, the first of them in the variant for CI.
type outage struct {
	service string
	kinds   []string
}

var outages = []outage{
	{"Keystone", []string{trove.OpCreate, trove.OpResizeFlavor, trove.OpResizeVolume, trove.OpDelete}},
	{"Nova", []string{trove.OpCreate, trove.OpResizeFlavor, trove.OpStop, trove.OpDelete}},
	{"Cinder", []string{trove.OpCreate, trove.OpResizeVolume, trove.OpDelete}},
	{"Neutron", []string{trove.OpCreate, trove.OpUpdateAccess, trove.OpDelete}},
	{"Glance", []string{trove.OpCreate, trove.OpRebuild}},
	{"Swift", []string{trove.OpDelete}},
}

const (
	shortOutage = 15 * time.Second
	longOutage  = 2 * time.Minute
	// goesOn is when an operation has gone on at the latest after the service answers again: it tries every 10 s, and the machine is slow.
	goesOn = 20 * time.Second
	// atTheDoor is how long operations may take until all of them need the service.
	atTheDoor = 45 * time.Second
	// answers is how long an answer of the API may take meanwhile.
	answers      = 5 * time.Second
	lookInOutage = 300 * time.Millisecond
)

// TestFaultsOutages takes services away, one at a time, in the middle of operations: each waits, says for whom, and goes on when the service is back. With LAB_ALONE
// or LAB_STOPS the services' daemons are stopped; on a lab that is shared, our processes cannot reach them.
func TestFaultsOutages(t *testing.T) {
	w, away := newWorld(t, ""), shortOutage
	if os.Getenv("LONG") != "" {
		away = longOutage
	}
	table := newEvidence(t, "## A service of the cloud goes away\n\n| service | operation | away, seconds | what the operation said | seconds from its return until it went on | until its end | left over |\n| --- | --- | --- | --- | --- | --- | --- |")
	w.logContainers()
	for _, o := range outages {
		if only := os.Getenv("OUTAGE"); only != "" && only != o.service { // for a look at one
			continue
		}
		if os.Getenv("LONG") == "" {
			o.kinds = o.kinds[:1]
		}
		t.Run(o.service, func(t *testing.T) {
			defer w.within(t)()
			for _, m := range w.meetsOutage(o, away) {
				table.line("| %s | %s | %.0f | %s | %.1f | %.1f | nothing |", o.service, m.kind, away.Seconds(), m.said, m.wentOn.Seconds(), m.ended.Seconds())
			}
		})
	}
}

// meeting is an operation that meets an outage.
type meeting struct {
	kind, id      string
	said          string        // of the service, while it was away
	wentOn, ended time.Duration // after its return; 0: not yet
}

// meetsOutage has operations meet an outage.
func (w *world) meetsOutage(o outage, away time.Duration) []*meeting {
	w.t.Helper()
	empty := w.inventory()
	all := w.prepared(o)
	w.login() // Keystone's word on a token is remembered for some minutes only
	g := w.gate(o)
	defer w.back(o.service)
	defer g.open() // before, so that nothing waits for it for ever
	for _, m := range all {
		w.begin(m)
	}
	g.wait(len(all))
	w.away(o.service)
	g.open()
	w.waits(o, all, away)
	w.back(o.service)
	w.goesOn(o, all)
	for _, m := range all {
		if err := w.client.DeleteInstance(w.t.Context(), m.id); err != nil && !client.IsNotFound(err) {
			w.t.Fatalf("delete %s: %v", m.id, err)
		}
	}
	for _, m := range all {
		w.gone(m.id)
	}
	w.same(o.service+" was away", empty)
	return all
}

// prepared makes the instances that the operations need.
func (w *world) prepared(o outage) []*meeting {
	w.t.Helper()
	var all []*meeting
	for _, kind := range o.kinds {
		m := &meeting{kind: kind}
		if kind != trove.OpCreate {
			m.id = w.create(w.spec("outage-" + strings.TrimPrefix(kind, "instance.")))
		}
		all = append(all, m)
	}
	for _, m := range all {
		if m.id == "" {
			continue
		}
		if op := w.ends(m.id, trove.OpCreate); op.State != "done" {
			w.t.Fatalf("create: %s %s", op.State, op.Error)
		}
		if o.service == "Swift" {
			w.publish(m.id)
		}
	}
	return all
}

// begin asks for the operation.
func (w *world) begin(m *meeting) {
	w.t.Helper()
	ctx, err := w.t.Context(), error(nil)
	switch m.kind {
	case trove.OpCreate:
		m.id = w.create(w.spec("outage"))
	case trove.OpDelete:
		err = w.client.DeleteInstance(ctx, m.id)
	case trove.OpResizeFlavor:
		err = w.client.ResizeFlavor(ctx, m.id, w.things.large)
	case trove.OpResizeVolume:
		err = w.client.ResizeVolume(ctx, m.id, 2)
	case trove.OpStop:
		err = w.client.StopInstance(ctx, m.id)
	case trove.OpUpdateAccess:
		err = w.client.UpdateInstance(ctx, m.id, wire.InstanceUpdate{Access: &wire.AccessRequest{AllowedCIDRs: &[]string{"192.0.2.0/24"}}})
	case trove.OpRebuild:
		err = w.clientOf("admin").RebuildInstance(ctx, m.id, w.things.image)
	default:
		w.t.Fatalf("how is %s asked for?", m.kind)
	}
	if err != nil {
		w.t.Fatalf("%s: %v", m.kind, err)
	}
}

// logContainers makes the containers of the project's published logs, which stay when the logs go, for the time of the test.
func (w *world) logContainers() {
	w.t.Helper()
	for _, name := range []string{trove.LogContainer, trove.LogContainer + ".pieces"} {
		put := func(method string) {
			if err := w.lab().Ask(noCancel(w.t), method, "demo", "object-store", "/"+name, nil, nil); err != nil {
				w.t.Error(err)
			}
		}
		put(http.MethodPut)
		w.t.Cleanup(func() { put(http.MethodDelete) })
	}
}

// publish has an instance's log published, which is an object in Swift then. Its server complains first: an empty log is nothing to publish.
func (w *world) publish(id string) {
	w.t.Helper()
	file := enginefake.LogFile(enginedriver.Layout{Data: filepath.Join(w.guests.home(id), "data")})
	log, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = log.WriteString("a complaint\n")
		_ = log.Close()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.client.ActOnLog(w.t.Context(), id, wire.LogAction{Name: "error", Publish: 1}); err != nil {
		w.t.Fatalf("publish a log: %v", err)
	}
	if !slices.ContainsFunc(w.inventory(), func(line string) bool {
		return strings.HasPrefix(line, "object demo/"+trove.LogContainer+"/") && strings.Contains(line, id)
	}) {
		w.t.Fatal("no object of the published log is in Swift")
	}
}

// gate is where requests of the taskmanager wait that need a service, so that it goes away before it gets any of them.
type gate struct {
	w      *world
	closed chan struct{}
	once   sync.Once
	at     chan call
}

// gate closes one. Changes alone need a service: reconcilers read all the time; but Glance and Swift are asked by nobody else.
func (w *world) gate(o outage) *gate {
	g := &gate{w: w, closed: make(chan struct{}), at: make(chan call, 100)}
	needs := func(c call) bool {
		switch o.service {
		case "Keystone": // whoever is asked says that the token has ended
			return c.changes()
		case "Swift":
			return c.Service == o.service
		case "Glance": // Nova reads the image of a server
			return c.Service == o.service || c.Service == "Nova" && c.Method == http.MethodPost && strings.HasSuffix(c.Path, "/servers")
		}
		return c.Service == o.service && c.changes()
	}
	w.proxies["taskmanager"].on(func(c call) {
		if needs(c) {
			g.at <- c
			<-g.closed
		}
	}, nil)
	return g
}

// wait returns when as many requests are at the gate.
func (g *gate) wait(n int) {
	g.w.t.Helper()
	limit := time.After(atTheDoor)
	for came := range n {
		select {
		case c := <-g.at:
			g.w.t.Logf("%s waits", c)
		case <-limit:
			if came == 0 {
				g.w.t.Fatal("nothing asked for the service")
			}
			return // others meet the outage later
		}
	}
}

func (g *gate) open() {
	g.once.Do(func() {
		g.w.proxies["taskmanager"].on(nil, nil)
		close(g.closed)
	})
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

// back gives it back, and returns when it serves.
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
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.t.Context()), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(repository, "tests", "openstack", "lab", "lab"), what, daemon)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "LAB_STATE=" + state}
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Errorf("lab %s %s: %v\n%s", what, daemon, err, out)
	}
}

// now returns the operation as it is; ended when it is over, or the instance gone whose delete it is.
func (m *meeting) now(w *world) (op wire.Operation, ended bool) {
	asked := time.Now()
	all, err := w.client.Operations(w.t.Context(), m.id)
	if took := time.Since(asked); took > answers {
		w.t.Errorf("the API took %s for an answer", took)
	}
	switch {
	case m.kind == trove.OpDelete && client.IsNotFound(err):
		return op, true
	case err != nil || len(all) == 0:
		w.t.Errorf("the API does not tell the operations of the instance: %v", err)
		return op, false
	}
	return all[0], all[0].Kind == m.kind && all[0].State != string(trove.OperationOpen)
}

// waits watches operations during the outage: they do not end, and the sentence of each names the service. The API answers all the time.
func (w *world) waits(o outage, all []*meeting, away time.Duration) {
	w.t.Helper()
	for end := time.Now().Add(away); time.Now().Before(end); time.Sleep(lookInOutage) {
		for _, m := range all {
			op, ended := m.now(w)
			if ended {
				w.t.Fatalf("%s did not wait for %s: it ended %s: %s", m.kind, o.service, op.State, op.Error)
			}
			if op.Kind == m.kind && strings.Contains(op.Sentence, o.service) {
				m.said = op.Sentence
			}
		}
	}
	for _, m := range all {
		if m.said == "" {
			op, _ := m.now(w)
			w.t.Errorf("%s waits and does not say that it is for %s: %q", m.kind, o.service, op.Sentence)
		}
	}
}

// goesOn watches operations after the outage until they are done.
func (w *world) goesOn(o outage, all []*meeting) {
	w.t.Helper()
	returned := time.Now()
	for left := len(all); left > 0; time.Sleep(lookInOutage) {
		left = 0
		for _, m := range all {
			if m.ended > 0 {
				continue
			}
			op, ended := m.now(w)
			if m.wentOn == 0 && (ended || !strings.Contains(op.Sentence, "trying again in")) {
				m.wentOn = time.Since(returned)
			}
			if !ended {
				left++
				continue
			}
			m.ended = time.Since(returned)
			if m.kind != trove.OpDelete && op.State != "done" {
				w.t.Errorf("%s ended %s: %s", m.kind, op.State, op.Error)
			}
			w.t.Logf("%s, %s: %s; went on %.1f s after, done %.1f s after", o.service, m.kind, m.said, m.wentOn.Seconds(), m.ended.Seconds())
		}
		if time.Since(returned) > longest {
			w.t.Fatalf("%d operations are not done %s after the return of %s", left, longest, o.service)
		}
	}
	for _, m := range all {
		if m.wentOn > goesOn {
			w.t.Errorf("%s went on %s after the return of %s, want %s at most", m.kind, m.wentOn, o.service, goesOn)
		}
	}
}
