package guestagent_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine/fake"
	"github.com/trove-dbaas/trove/guestapi"
)

// tail asks from where the last answer ended.
func (g *logGuest) tail(last guestapi.LogTail, lines int) guestapi.LogTail {
	g.t.Helper()
	next, err := g.client.TailLog(g.t.Context(), g.id, guestapi.TailLogArgs{Name: "error", Lines: lines, From: last.To, File: last.File})
	if err != nil {
		g.t.Fatal(err)
	}
	return next
}

func (g *logGuest) wantTail(what string, got guestapi.LogTail, text string, restarted bool) {
	g.t.Helper()
	if string(got.Data) != text || got.Restarted != restarted {
		g.t.Errorf("%s: got %.120q (%d bytes), restarted %v; want %.120q (%d bytes), %v", what, got.Data, len(got.Data), got.Restarted, text, len(text), restarted)
	}
}

func TestTailOfALogThatGrows(t *testing.T) {
	g := newLogGuest(t)
	at := g.tail(guestapi.LogTail{}, 10)
	g.wantTail("an empty log", at, "", false)
	g.write("one\ntwo\nthree\nhal")
	at = g.tail(at, 2)
	g.wantTail("its end", at, "two\nthree\n", false)
	g.wantTail("nothing new", g.tail(at, 2), "", false)
	g.write("f\nbinary \x00\xff\n")
	at = g.tail(at, 2)
	g.wantTail("what is new", at, "half\nbinary \x00\xff\n", false)
	g.wantTail("no lines of it", g.tail(guestapi.LogTail{}, 0), "", false)
	g.wantTail("more lines than there are", g.tail(guestapi.LogTail{}, 900), "one\ntwo\nthree\nhalf\nbinary \x00\xff\n", false)
}

func TestTailOfALogThatIsTruncatedAndRotated(t *testing.T) {
	g := newLogGuest(t)
	g.write("first\nsecond\n")
	at := g.tail(guestapi.LogTail{}, 10)
	g.truncate()
	gone := g.tail(at, 10)
	g.wantTail("truncated", gone, "", true)
	g.write("third\n")
	at = g.tail(gone, 10)
	g.wantTail("after it", at, "third\n", false)
	path := fake.LogFile(g.layout)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	g.write("third\nfourth\n") // it begins like the one before
	at = g.tail(at, 10)
	g.wantTail("rotated", at, "third\nfourth\n", true)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	g.wantTail("removed", g.tail(at, 10), "", true)
}

func TestTailIsBounded(t *testing.T) {
	g := newLogGuest(t)
	g.write("start\n")
	at := g.tail(guestapi.LogTail{}, 10)
	text := manyLines(0, 20_000) // the agent cuts what is above 4 MiB
	g.write(text + strings.Repeat("x", 3*guestapi.MaxTail) + "\n")
	var all strings.Builder
	for n := 0; ; n++ {
		next := g.tail(at, 0)
		if len(next.Data) > guestapi.MaxTail || n > 200 {
			t.Fatalf("answer %d has %d bytes", n, len(next.Data))
		}
		all.Write(next.Data)
		if at = next; !next.More {
			break
		}
	}
	all.Write(g.tail(at, 0).Data)
	if want := text + strings.Repeat("x", 3*guestapi.MaxTail) + "\n"; all.String() != want {
		t.Errorf("%d bytes came, want %d", all.Len(), len(want))
	}
	g.write("end\n")
	if last := g.tail(guestapi.LogTail{}, 1); string(last.Data) != "end\n" {
		t.Errorf("the last line is %.80q", last.Data)
	}
}

func TestTailShowsLogsOnly(t *testing.T) {
	g := newLogGuest(t)
	for _, name := range []string{"", "nonsense", "../../trove/journal", "engine.json"} {
		if _, err := g.client.TailLog(t.Context(), g.id, guestapi.TailLogArgs{Name: name}); !trove.IsNotFound(err) {
			t.Errorf("%q: %v", name, err)
		}
	}
	path := fake.LogFile(g.layout)
	_ = os.Remove(path)
	if err := os.Symlink("/etc/passwd", path); err != nil { // the engine's account may
		t.Fatal(err)
	}
	if got, err := g.client.TailLog(t.Context(), g.id, guestapi.TailLogArgs{Name: "error", Lines: 10}); err == nil {
		t.Errorf("a link was followed: %+v", got)
	}
}

func TestMetricsAreBoundedAndAskedForSeldom(t *testing.T) {
	g := newLogGuest(t)
	began := time.Now()
	all, err := g.client.Metrics(t.Context(), g.id, guestapi.MetricsArgs{})
	if err != nil || len(all.Families) != 4 || all.Left != 0 {
		t.Fatalf("%+v, %v", all, err)
	}
	few, err := g.client.Metrics(t.Context(), g.id, guestapi.MetricsArgs{Series: 3})
	if err != nil || len(few.Families) != 3 || few.Left != 2 {
		t.Errorf("at most three: %+v, %v", few, err)
	}
	if n := g.fake.Calls(fake.OpMetrics); n != 1 && time.Since(began) < 5*time.Second {
		t.Errorf("the engine was asked %d times within a moment", n)
	}
	st, err := g.client.Statements(t.Context(), g.id, guestapi.StatementsArgs{Limit: 10})
	if err != nil {
		t.Errorf("%v, %v", st, err)
	}
	if _, err := g.client.Statements(t.Context(), g.id, guestapi.StatementsArgs{Limit: 101}); trove.KindOf(err) != trove.KindBadRequest {
		t.Errorf("101 statements: %v", err)
	}
	if end := g.long(guestapi.CmdStop, "op/stop", nil); end.State != guestapi.StateDone {
		t.Fatal(end)
	}
	if _, err := g.client.Metrics(t.Context(), g.id, guestapi.MetricsArgs{}); trove.KindOf(err) != trove.KindUnavailable {
		t.Errorf("figures of an engine that is down: %v", err)
	}
}

func TestChangedParameterIsAnEvent(t *testing.T) {
	g := newLogGuest(t)
	g.stop()
	g.cfg.Timings.Drift = 20 * 1000 * 1000 // ns
	g.start()
	g.until("the engine to be up", func() bool { return g.agent.Service().Up })
	if err := g.fake.Change(g.layout, "max_things", "77"); err != nil {
		t.Fatal(err)
	}
	said := func(value string) func() bool {
		return func() bool { // an event is in three heartbeats, of which the last one may be over
			return slices.ContainsFunc(received[guestapi.Heartbeat](g.guest, guestapi.ReportHeartbeat), func(h guestapi.Heartbeat) bool {
				return h.EventKind == trove.EventConfigurationDrift && strings.Contains(h.Event, "max_things is "+value)
			})
		}
	}
	g.until("the change to be said", said("77"))
	all, err := g.client.Drift(t.Context(), g.id)
	if err != nil || fmt.Sprint(all) != "[{max_things 512 77}]" {
		t.Errorf("%v, %v", all, err)
	}
	if err := g.fake.Change(g.layout, "max_things", "78"); err != nil {
		t.Fatal(err)
	}
	g.until("the next change to be said", said("78"))
}
