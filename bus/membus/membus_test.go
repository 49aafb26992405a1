package membus_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/bustest"
	"github.com/trove-dbaas/trove/bus/membus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	bustest.Run(t, func(t *testing.T) bustest.Fixture {
		b := membus.New()
		t.Cleanup(func() { _ = b.Close() })
		return bustest.Fixture{
			Guest: b.Conn("guest"), GuestID: trove.NewID(), Guest2: b.Conn("guest 2"), Guest2ID: trove.NewID(),
			Controller: b.Conn("controller"), Controller2: b.Conn("controller 2"),
		}
	})
}

func TestDropMessageLosesTheNth(t *testing.T) {
	b := membus.New()
	defer func() { _ = b.Close() }()
	got := make(chan string, 3)
	if _, err := b.Conn("b").Subscribe(t.Context(), "a.*", "", func(_ context.Context, m bus.Message) { got <- string(m.Data) }); err != nil {
		t.Fatal(err)
	}
	b.DropMessage("a.b", 2)
	sender := b.Conn("a")
	for _, text := range []string{"1", "2", "3"} {
		if err := sender.Publish(t.Context(), "a.b", []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if first, second := <-got, <-got; first != "1" || second != "3" || b.Dropped() != 1 {
		t.Fatalf("received %s and %s with %d lost, want 1 and 3 with 1 lost", first, second, b.Dropped())
	}
}

func TestDropRepliesLosesTheAnswerAfterTheWorkWasDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := membus.New()
		defer func() { _ = b.Close() }()
		done := 0
		_, err := b.Conn("guest").Subscribe(t.Context(), "a", "", func(ctx context.Context, m bus.Message) {
			done++
			_ = m.Reply(ctx, []byte("yes"))
		})
		if err != nil {
			t.Fatal(err)
		}
		b.DropReplies("a", 1)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		c := b.Conn("controller")
		if _, err := c.Request(ctx, "a", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v, want context.DeadlineExceeded", err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		answer, err := c.Request(ctx, "a", nil)
		if err != nil || string(answer) != "yes" || done != 2 {
			t.Fatalf("got %q, %v after %d handled, want yes after 2", answer, err, done)
		}
	})
}

func BenchmarkRequest(b *testing.B) {
	broker := membus.New()
	defer func() { _ = broker.Close() }()
	if _, err := broker.Conn("g").Subscribe(b.Context(), "a", "", func(ctx context.Context, m bus.Message) { _ = m.Reply(ctx, m.Data) }); err != nil {
		b.Fatal(err)
	}
	c := broker.Conn("c")
	ctx, cancel := context.WithTimeout(b.Context(), time.Hour)
	defer cancel()
	for b.Loop() {
		if _, err := c.Request(ctx, "a", []byte("x")); err != nil {
			b.Fatal(err)
		}
	}
}

func TestMessagesAreDoubledDelayedAndLeftUnanswered(t *testing.T) {
	synctest.Test(t, doubledDelayedAndLeftUnanswered)
}

func doubledDelayedAndLeftUnanswered(t *testing.T) {
	b := membus.New()
	defer func() { _ = b.Close() }()
	got := make(chan string, 10)
	if _, err := b.Conn("a").Subscribe(t.Context(), "s", "", func(_ context.Context, m bus.Message) { got <- string(m.Data) }); err != nil {
		t.Fatal(err)
	}
	b.DoubleMessage("s", 2)
	b.DelayMessage("s", 3, 50*time.Millisecond)
	c := b.Conn("b")
	for _, text := range []string{"1", "2", "3", "4"} {
		if err := c.Publish(t.Context(), "s", []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	var all string
	for range 5 {
		all += <-got
	}
	if all != "12243" {
		t.Errorf("got %s", all)
	}
	if _, err := b.Conn("c").Subscribe(t.Context(), "r", "", func(ctx context.Context, m bus.Message) { _ = m.Reply(ctx, m.Data) }); err != nil {
		t.Fatal(err)
	}
	b.DropReply("r", 2)
	for n, want := range []bool{true, false, true} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := c.Request(ctx, "r", []byte("x"))
		cancel()
		if (err == nil) != want {
			t.Errorf("request %d: %v", n+1, err)
		}
	}
}
