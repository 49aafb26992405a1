package openstack_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/tests/openstack"
)

// ourLimit is what the service may add to what Nova and the boot of the guest take, on a machine that does nothing else. The evidence shows it; a test, on a machine
// that may be busy, fails where it is missed by far.
const (
	ourLimit = 5 * time.Second
	farOver  = 4
)

// timetable collects how long things took, for the log and for docs/evidence.
type timetable struct {
	t    *testing.T
	text strings.Builder
}

func newTimetable(t *testing.T, e engine) *timetable {
	tt := &timetable{t: t}
	fmt.Fprintf(&tt.text, "\n## %s %s%s\n\n| what | seconds | of which |\n| --- | --- | --- |\n", e.datastore, e.version, e.apart)
	return tt
}

func (tt *timetable) row(what string, took time.Duration, parts string) {
	fmt.Fprintf(&tt.text, "| %s | %.1f | %s |\n", what, took.Seconds(), parts)
}

// add is an operation with its steps.
func (tt *timetable) add(what string, op wire.Operation) {
	var parts []string
	started := map[string]time.Time{}
	for _, e := range op.Events {
		switch e.Outcome {
		case "started":
			started[e.Step] = e.At
		case "done":
			if took := e.At.Sub(started[e.Step]); took >= 100*time.Millisecond {
				parts = append(parts, fmt.Sprintf("%s %.1f", e.Step, took.Seconds()))
			}
		}
	}
	tt.row(what, op.Updated.Sub(op.Created), strings.Join(parts, ", "))
}

// create splits the time from the request to the login. Nova's is from the step that asks it for a server until that is ACTIVE; the guest's boot from there
// until its agent has called. What requests to Neutron and Cinder took before is theirs (asked), as the service has measured it; ours is all the rest.
func (tt *timetable) create(op wire.Operation, login time.Time, s sighting, asked time.Duration) {
	tt.t.Helper()
	tt.add("create", op)
	var began, called time.Time // of the server's creation, of the agent
	for _, e := range op.Events {
		switch {
		case e.Step == "machine" && e.Outcome == "started":
			began = e.At
		case e.Step == "guest" && e.Outcome == "done":
			called = e.At
		}
	}
	if began.IsZero() || called.IsZero() || s.active.IsZero() {
		tt.t.Fatalf("the server was asked for at %v and active at %v, the guest called at %v", began, s.active, called)
	}
	total, nova, boot := login.Sub(op.Created), s.active.Sub(began), max(0, called.Sub(s.active))
	asked = min(asked, began.Sub(op.Created))
	ours := total - nova - boot - asked
	tt.row("create to login", total, fmt.Sprintf("Nova's %.1f, the guest's boot %.1f, requests to Neutron and Cinder %.1f, ours %.1f (%.1f of it after the boot)",
		nova.Seconds(), boot.Seconds(), asked.Seconds(), ours.Seconds(), login.Sub(called).Seconds()))
	if ours > farOver*ourLimit {
		tt.t.Errorf("ours took %s of %s from the request to the login, far more than %s", ours, total, ourLimit)
	}
}

// print shows the table, and adds it to the file of the evidence if there is one.
func (tt *timetable) print(t *testing.T) {
	t.Helper()
	t.Log(tt.text.String())
	name := os.Getenv("STORY_EVIDENCE")
	if name == "" || t.Failed() {
		return
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(tt.text.String()); err != nil {
		t.Fatal(err)
	}
}

// sighting is when a server was first seen to be ACTIVE.
type sighting struct{ active time.Time }

// watchServer looks at Nova until the server of that name is ACTIVE; the returned function waits for it.
func watchServer(t *testing.T, c *openstack.Cloud, name string) func() sighting {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	var s sighting
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil && s.active.IsZero() {
			servers, err := c.Servers(ctx, name)
			now := time.Now()
			if err == nil && len(servers) == 1 && servers[0].Status == "ACTIVE" {
				s.active = now
			}
			time.Sleep(200 * time.Millisecond)
		}
	}()
	return func() sighting {
		<-done
		cancel()
		return s
	}
}
