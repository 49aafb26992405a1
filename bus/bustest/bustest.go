// Package bustest is the suite that every bus driver must pass.
package bustest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/guestapi"
)

// Fixture is one bus with two guests and two controllers, each with the rights of its role. Subscriptions and messages of one may take a
// moment to be known to the others; the suite polls.
type Fixture struct {
	Guest, Guest2           bus.Conn
	GuestID, Guest2ID       string
	Controller, Controller2 bus.Conn
}

const patience = time.Minute

// Run runs the suite. New is called once per test and leaves cleaning up to t.Cleanup.
func Run(t *testing.T, newFixture func(t *testing.T) Fixture) {
	t.Helper()
	tests := []struct {
		name string
		run  func(*testing.T, Fixture)
	}{
		{"request is answered", testRequest},
		{"request without listener fails at once", testNoResponder},
		{"request without deadline is refused", testNoDeadline},
		{"request ends with its context", testRequestTimeout},
		{"request after the listener left has no responder", testStop},
		{"second answer is not delivered", testSecondAnswer},
		{"reports reach a wildcard subscription in order", testReports},
		{"queue group shares, plain subscriptions all receive", testQueue},
		{"reply to a message that is no request does nothing", testReplyToNothing},
		{"sender may use its buffer again", testBuffer},
		{"handlers of one subscription run one after another", testSerial},
		{"stop waits for the running handler", testStopWaits},
		{"close ends the handler's context and waits", testCloseWaits},
		{"closed connection", testClosed},
		{"subjects that are not valid", testBadSubjects},
		{"many at once", testConcurrent},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, newFixture(t)) })
	}
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func echo(ctx context.Context, m bus.Message) {
	_ = m.Reply(ctx, append([]byte("answer to "), m.Data...))
}

func subscribe(t *testing.T, c bus.Conn, subject, queue string, h bus.Handler) (stop func()) {
	t.Helper()
	stop, err := c.Subscribe(within(t), subject, queue, h)
	if err != nil {
		t.Fatalf("Subscribe(%s, %q): %v", subject, queue, err)
	}
	return stop
}

// request repeats until the guest's subscription is known to the broker.
func request(t *testing.T, c bus.Conn, subject, text string) string {
	t.Helper()
	ctx := within(t)
	for {
		answer, err := c.Request(ctx, subject, []byte(text))
		if err == nil {
			return string(answer)
		}
		if !errors.Is(err, bus.ErrNoResponder) || ctx.Err() != nil {
			t.Fatalf("Request(%s): %v", subject, err)
		}
		pause(ctx)
	}
}

func pause(ctx context.Context) {
	timer := time.NewTimer(5 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// publishUntil repeats the message until arrived returns true: a subscription may still be on its way to the broker.
func publishUntil(t *testing.T, c bus.Conn, subject, text string, arrived func() bool) {
	t.Helper()
	ctx := within(t)
	for !arrived() {
		if err := c.Publish(ctx, subject, []byte(text)); err != nil {
			t.Fatalf("Publish(%s): %v", subject, err)
		}
		pause(ctx)
	}
}

// inbox collects what a subscription receives.
type inbox struct {
	mu  sync.Mutex
	got []string
}

func (i *inbox) handle(_ context.Context, m bus.Message) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.got = append(i.got, m.Subject+" "+string(m.Data))
}

func (i *inbox) without(text string) []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(i.got), func(s string) bool { return strings.HasSuffix(s, " "+text) })
}

func (i *inbox) has(text string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.ContainsFunc(i.got, func(s string) bool { return strings.HasSuffix(s, " "+text) })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx := within(t)
	for !ok() {
		if ctx.Err() != nil {
			t.Fatalf("waited %s for: %s", patience, what)
		}
		pause(ctx)
	}
}

func testRequest(t *testing.T, f Fixture) {
	subscribe(t, f.Guest, guestapi.CommandSubject(f.GuestID), "", echo)
	if got, want := request(t, f.Controller, guestapi.CommandSubject(f.GuestID), "one"), "answer to one"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	if got, want := request(t, f.Controller2, guestapi.CommandSubject(f.GuestID), "two"), "answer to two"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func testNoResponder(t *testing.T, f Fixture) {
	subscribe(t, f.Guest, guestapi.CommandSubject(f.GuestID), "", echo)
	start := time.Now()
	_, err := f.Controller.Request(within(t), guestapi.CommandSubject(f.Guest2ID), []byte("x"))
	if !errors.Is(err, bus.ErrNoResponder) {
		t.Fatalf("got %v, want ErrNoResponder", err)
	}
	if took := time.Since(start); took > patience/2 {
		t.Fatalf("took %s: not at once", took)
	}
}

func testNoDeadline(t *testing.T, f Fixture) {
	subscribe(t, f.Guest, guestapi.CommandSubject(f.GuestID), "", echo)
	request(t, f.Controller, guestapi.CommandSubject(f.GuestID), "ready")
	if _, err := f.Controller.Request(context.WithoutCancel(t.Context()), guestapi.CommandSubject(f.GuestID), nil); err == nil {
		t.Fatal("a request that could wait for ever was accepted")
	}
}

func testRequestTimeout(t *testing.T, f Fixture) {
	subscribe(t, f.Guest, guestapi.CommandSubject(f.GuestID), "", func(ctx context.Context, m bus.Message) {
		if string(m.Data) != "silence" {
			echo(ctx, m)
		}
	})
	request(t, f.Controller, guestapi.CommandSubject(f.GuestID), "ready")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := f.Controller.Request(ctx, guestapi.CommandSubject(f.GuestID), []byte("silence")); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want context.DeadlineExceeded", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), patience)
	cancel()
	if _, err := f.Controller.Request(ctx, guestapi.CommandSubject(f.GuestID), nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want context.Canceled", err)
	}
}

func testStop(t *testing.T, f Fixture) {
	stop := subscribe(t, f.Guest, guestapi.CommandSubject(f.GuestID), "", echo)
	request(t, f.Controller, guestapi.CommandSubject(f.GuestID), "ready")
	stop()
	stop()
	eventually(t, "no responder after the subscription was stopped", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := f.Controller.Request(ctx, guestapi.CommandSubject(f.GuestID), nil)
		return errors.Is(err, bus.ErrNoResponder)
	})
}

func testSecondAnswer(t *testing.T, f Fixture) {
	subscribe(t, f.Guest, guestapi.CommandSubject(f.GuestID), "", func(ctx context.Context, m bus.Message) {
		_ = m.Reply(ctx, append([]byte("first "), m.Data...))
		_ = m.Reply(ctx, append([]byte("second "), m.Data...))
	})
	for i := range 20 {
		text := fmt.Sprint(i)
		if got, want := request(t, f.Controller, guestapi.CommandSubject(f.GuestID), text), "first "+text; got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
}

func testReports(t *testing.T, f Fixture) {
	var in inbox
	subscribe(t, f.Controller, guestapi.AllReports, guestapi.QueueConductor, in.handle)
	subject := guestapi.ReportSubject(f.GuestID, guestapi.ReportHeartbeat)
	publishUntil(t, f.Guest, subject, "ready", func() bool { return in.has("ready") })
	var want []string
	for i := range 100 {
		text := fmt.Sprint(i)
		if err := f.Guest.Publish(within(t), subject, []byte(text)); err != nil {
			t.Fatal(err)
		}
		want = append(want, subject+" "+text)
	}
	eventually(t, "100 reports", func() bool { return in.has("99") })
	if d := cmp.Diff(want, in.without("ready")); d != "" {
		t.Fatal(d)
	}
	end := guestapi.ReportSubject(f.Guest2ID, guestapi.ReportEnd)
	if err := f.Guest2.Publish(within(t), end, []byte("other")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other guest's report", func() bool { return in.has("other") })
}

func testQueue(t *testing.T, f Fixture) {
	var a, b, plain1, plain2 inbox
	subscribe(t, f.Controller, guestapi.WakeSubject, "q", a.handle)
	subscribe(t, f.Controller2, guestapi.WakeSubject, "q", b.handle)
	subscribe(t, f.Controller, guestapi.WakeSubject, "", plain1.handle)
	subscribe(t, f.Controller2, "trove.v1.ctl.>", "", plain2.handle)
	publishUntil(t, f.Controller, guestapi.WakeSubject, "ready", func() bool {
		return a.has("ready") && b.has("ready") && plain1.has("ready") && plain2.has("ready")
	})
	const n = 60
	for i := range n {
		if err := f.Controller2.Publish(within(t), guestapi.WakeSubject, fmt.Appendf(nil, "m%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "each message once per queue and once per plain subscription", func() bool {
		return len(plain1.without("ready")) == n && len(plain2.without("ready")) == n &&
			len(a.without("ready"))+len(b.without("ready")) >= n
	})
	both := append(a.without("ready"), b.without("ready")...)
	slices.Sort(both)
	if got := len(slices.Compact(slices.Clone(both))); got != n || len(both) != n {
		t.Fatalf("the queue received %d messages, %d of them different, want %d each", len(both), got, n)
	}
}

func testReplyToNothing(t *testing.T, f Fixture) {
	errs := make(chan error, 1000)
	var in inbox
	subscribe(t, f.Controller, guestapi.AllReports, "", func(ctx context.Context, m bus.Message) {
		errs <- m.Reply(ctx, []byte("x"))
		in.handle(ctx, m)
	})
	publishUntil(t, f.Guest, guestapi.ReportSubject(f.GuestID, guestapi.ReportHello), "r", func() bool { return in.has("r") })
	if err := <-errs; err != nil {
		t.Fatalf("Reply: %v", err)
	}
}

func testBuffer(t *testing.T, f Fixture) {
	var in inbox
	subscribe(t, f.Controller, guestapi.AllReports, "", in.handle)
	subject := guestapi.ReportSubject(f.GuestID, guestapi.ReportEnd)
	publishUntil(t, f.Guest, subject, "ready", func() bool { return in.has("ready") })
	buffer := []byte("original")
	if err := f.Guest.Publish(within(t), subject, buffer); err != nil {
		t.Fatal(err)
	}
	copy(buffer, "scribble")
	eventually(t, "the message as it was when it was sent", func() bool { return in.has("original") })
}

func testSerial(t *testing.T, f Fixture) {
	var mu sync.Mutex
	running, most, seen := 0, 0, 0
	subscribe(t, f.Controller, guestapi.AllReports, "", func(context.Context, bus.Message) {
		mu.Lock()
		running++
		most = max(most, running)
		mu.Unlock()
		time.Sleep(time.Millisecond) //nolint:forbidigo // the handler must take a while for an overlap to show
		mu.Lock()
		running--
		seen++
		mu.Unlock()
	})
	publishUntil(t, f.Guest, guestapi.ReportSubject(f.GuestID, guestapi.ReportHeartbeat), "x", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return seen >= 20
	})
	mu.Lock()
	defer mu.Unlock()
	if most != 1 {
		t.Fatalf("%d handlers ran at the same time", most)
	}
}

func testStopWaits(t *testing.T, f Fixture) {
	entered, release := make(chan struct{}, 100), make(chan struct{})
	stop := subscribe(t, f.Guest, guestapi.CommandSubject(f.GuestID), "", func(context.Context, bus.Message) {
		entered <- struct{}{}
		<-release
	})
	go func() {
		ctx := within(t)
		for len(entered) == 0 {
			short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			_, _ = f.Controller.Request(short, guestapi.CommandSubject(f.GuestID), nil)
			cancel()
		}
	}()
	eventually(t, "the handler to run", func() bool { return len(entered) > 0 })
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	select {
	case <-stopped:
		t.Fatal("stop returned while the handler was running")
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	select {
	case <-stopped:
	case <-time.After(patience):
		t.Fatal("stop did not return after the handler had ended")
	}
}

func testCloseWaits(t *testing.T, f Fixture) {
	entered, ended := make(chan struct{}, 1), make(chan struct{})
	subscribe(t, f.Guest, guestapi.CommandSubject(f.GuestID), "", func(ctx context.Context, m bus.Message) {
		if string(m.Data) == "ready" {
			echo(ctx, m)
			return
		}
		entered <- struct{}{}
		<-ctx.Done()
		close(ended)
	})
	request(t, f.Controller, guestapi.CommandSubject(f.GuestID), "ready")
	ctx, cancel := context.WithCancel(within(t))
	requested := make(chan struct{})
	go func() {
		defer close(requested)
		_, _ = f.Controller.Request(ctx, guestapi.CommandSubject(f.GuestID), []byte("wait"))
	}()
	<-entered
	if err := f.Guest.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	default:
		t.Fatal("Close returned before the handler had ended")
	}
	cancel()
	<-requested
}

func testClosed(t *testing.T, f Fixture) {
	for range 2 {
		if err := f.Controller.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	ctx := within(t)
	if err := f.Controller.Publish(ctx, guestapi.WakeSubject, nil); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("Publish: got %v, want ErrClosed", err)
	}
	if _, err := f.Controller.Request(ctx, guestapi.CommandSubject(f.GuestID), nil); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("Request: got %v, want ErrClosed", err)
	}
	if _, err := f.Controller.Subscribe(ctx, guestapi.WakeSubject, "", echo); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("Subscribe: got %v, want ErrClosed", err)
	}
}

func testBadSubjects(t *testing.T, f Fixture) {
	ctx := within(t)
	for _, s := range []string{"", "trove..x", "trove.v1 ctl", ".trove", "trove.", "trove.v1.ctl.*", "trove.v1.ctl.>"} {
		if err := f.Controller.Publish(ctx, s, nil); err == nil {
			t.Errorf("Publish(%q) was accepted", s)
		}
		if _, err := f.Controller.Request(ctx, s, nil); err == nil || errors.Is(err, bus.ErrNoResponder) {
			t.Errorf("Request(%q): %v", s, err)
		}
	}
	for _, s := range []string{"", "trove..x", "trove.v1 ctl", "trove.>.x"} {
		if _, err := f.Controller.Subscribe(ctx, s, "", echo); err == nil {
			t.Errorf("Subscribe(%q) was accepted", s)
		}
	}
}

func testConcurrent(t *testing.T, f Fixture) {
	subscribe(t, f.Guest, guestapi.CommandSubject(f.GuestID), "", echo)
	subscribe(t, f.Guest2, guestapi.CommandSubject(f.Guest2ID), "", echo)
	request(t, f.Controller, guestapi.CommandSubject(f.GuestID), "ready")
	request(t, f.Controller2, guestapi.CommandSubject(f.Guest2ID), "ready")
	ctx := within(t)
	var wg sync.WaitGroup
	for worker := range 8 {
		conn, id := f.Controller, f.GuestID
		if worker%2 == 1 {
			conn, id = f.Controller2, f.Guest2ID
		}
		wg.Go(func() {
			for i := range 50 {
				text := fmt.Appendf(nil, "%d/%d", worker, i)
				got, err := conn.Request(ctx, guestapi.CommandSubject(id), text)
				if want := append([]byte("answer to "), text...); err != nil || !bytes.Equal(got, want) {
					t.Errorf("Request: %q, %v, want %q", got, err, want)
					return
				}
			}
		})
	}
	wg.Wait()
}
