package guestapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus/membus"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const instance = "2a8a4d5c-1f5e-4f0e-9d9a-0f6c3f3f7a11"

// serve answers commands to the instance with h until the test ends.
func serve(t *testing.T, b *membus.Broker, h guestapi.CommandHandler) *guestapi.Client {
	t.Helper()
	stop, err := guestapi.Serve(t.Context(), b.Conn("guest"), instance, slog.New(slog.DiscardHandler), h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(); _ = b.Close() })
	return guestapi.NewClient(b.Conn("controller"))
}

// In a bubble the guest answers in time, however busy the machine is.
func TestClientSendsArgumentsAndRequestID(t *testing.T) {
	synctest.Test(t, clientSendsArgumentsAndRequestID)
}

func clientSendsArgumentsAndRequestID(t *testing.T) {
	var got guestapi.Request
	var reqID string
	c := serve(t, membus.New(), func(ctx context.Context, r guestapi.Request) (any, error) {
		got, reqID = r, telemetry.RequestID(ctx)
		return guestapi.OperationStatus{ID: r.ID, State: guestapi.StateRunning, Percent: 7}, nil
	})
	ctx := telemetry.WithRequestID(t.Context(), "req-1")
	st, err := c.Start(ctx, instance, "op/prepare", guestapi.CmdGrow, guestapi.GrowArgs{SizeGiB: 3})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(guestapi.OperationStatus{ID: "op/prepare", State: guestapi.StateRunning, Percent: 7}, st); d != "" {
		t.Error(d)
	}
	want := guestapi.Request{V: 1, ID: "op/prepare", Command: guestapi.CmdGrow, Args: json.RawMessage(`{"size_gib":3}`), RequestID: "req-1"}
	if d := cmp.Diff(want, got); d != "" || reqID != "req-1" {
		t.Error(d, reqID)
	}
}

func TestClientShortCommands(t *testing.T) {
	type answer struct {
		args   string
		result any
	}
	answers := map[guestapi.Command]answer{
		guestapi.CmdListDatabases:  {"", []trove.Database{{Name: "a"}}},
		guestapi.CmdCreateDatabase: {`[{"name":"a"}]`, nil},
		guestapi.CmdDropDatabase:   {`{"name":"a"}`, nil},
		guestapi.CmdListUsers:      {"", []trove.User{{Name: "u", Host: "%"}}},
		guestapi.CmdCreateUser:     {`[{"name":"u","password":"p"}]`, nil},
		guestapi.CmdDropUser:       {`{"name":"u","host":"%"}`, nil},
		guestapi.CmdUpdateUser:     {`{"name":"u","new_name":"v"}`, nil},
		guestapi.CmdGrant:          {`{"name":"u","databases":["a","b"]}`, nil},
		guestapi.CmdRevoke:         {`{"name":"u","databases":["a"]}`, nil},
		guestapi.CmdEnableRoot:     {`{"password":"secret"}`, nil},
		guestapi.CmdDisableRoot:    {"", nil},
		guestapi.CmdRootEnabled:    {"", true},
		guestapi.CmdVolume:         {"", guestapi.VolumeUsage{Used: 1, Total: 2}},
	}
	called := map[guestapi.Command]bool{}
	c := serve(t, membus.New(), func(_ context.Context, r guestapi.Request) (any, error) {
		called[r.Command] = true
		if d := cmp.Diff(answers[r.Command].args, string(r.Args)); d != "" {
			t.Errorf("%s: %s", r.Command, d)
		}
		return answers[r.Command].result, nil
	})
	ctx := t.Context()
	databases, err := c.ListDatabases(ctx, instance)
	check(t, err, cmp.Diff([]trove.Database{{Name: "a"}}, databases))
	users, err := c.ListUsers(ctx, instance)
	check(t, err, cmp.Diff([]trove.User{{Name: "u", Host: "%"}}, users))
	enabled, err := c.RootEnabled(ctx, instance)
	check(t, err, cmp.Diff(true, enabled))
	volume, err := c.Volume(ctx, instance)
	check(t, err, cmp.Diff(guestapi.VolumeUsage{Used: 1, Total: 2}, volume))
	newName := "v"
	user := guestapi.UserRef{Name: "u"}
	for _, err := range []error{
		c.CreateDatabases(ctx, instance, []trove.Database{{Name: "a"}}),
		c.DropDatabase(ctx, instance, "a"),
		c.CreateUsers(ctx, instance, []guestapi.UserArgs{{Name: "u", Password: "p"}}),
		c.DropUser(ctx, instance, guestapi.UserRef{Name: "u", Host: "%"}),
		c.UpdateUser(ctx, instance, guestapi.UpdateUserArgs{UserRef: user, NewName: &newName}),
		c.Grant(ctx, instance, user, []string{"a", "b"}),
		c.Revoke(ctx, instance, user, "a"),
		c.EnableRoot(ctx, instance, "secret"),
		c.DisableRoot(ctx, instance),
	} {
		check(t, err, "")
	}
	if len(called) != len(answers) {
		t.Errorf("%d commands arrived, want %d", len(called), len(answers))
	}
}

func check(t *testing.T, err error, diff string) {
	t.Helper()
	if err != nil || diff != "" {
		t.Error(err, diff)
	}
}

func TestClientGivesTheKindThatTheGuestSaid(t *testing.T) {
	for sent, want := range map[trove.Kind]trove.Kind{
		trove.KindNotFound: trove.KindNotFound, trove.KindConflict: trove.KindConflict,
		trove.KindUnauthorized: trove.KindInternal, trove.Kind(99): trove.KindInternal,
	} {
		c := serve(t, membus.New(), func(context.Context, guestapi.Request) (any, error) {
			return nil, trove.Errorf(sent, "Sentence.")
		})
		_, err := c.ListUsers(t.Context(), instance)
		if trove.KindOf(err) != want || sent == want && trove.MessageOf(err) != "Sentence." {
			t.Errorf("sent %v, got %v: %v, want %v", sent, trove.KindOf(err), err, want)
		}
	}
}

func TestClientSaysThatTheGuestIsNotConnected(t *testing.T) {
	b := membus.New()
	_, err := guestapi.NewClient(b.Conn("c")).Status(t.Context(), instance, "op")
	if trove.KindOf(err) != trove.KindUnavailable || !strings.Contains(trove.MessageOf(err), "is not connected") {
		t.Fatalf("got %v (%v)", err, trove.KindOf(err))
	}
	if _, err := guestapi.NewClient(b.Conn("c")).Status(t.Context(), "*", "op"); trove.KindOf(err) != trove.KindBadRequest {
		t.Fatalf("instance *: %v", err)
	}
}

func TestClientGivesUpOnASilentGuest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := membus.New()
		c := serve(t, b, func(context.Context, guestapi.Request) (any, error) { return nil, nil })
		b.DropReplies(">", 3)
		start := time.Now()
		_, err := c.Status(t.Context(), instance, "op")
		if took := time.Since(start); took != 2*time.Second || trove.KindOf(err) != trove.KindUnavailable {
			t.Errorf("Status: %v after %s, want unavailable after 2 s", err, took)
		}
		start = time.Now()
		err = c.DisableRoot(t.Context(), instance)
		if took := time.Since(start); took != 15*time.Second || trove.KindOf(err) != trove.KindUnavailable {
			t.Errorf("DisableRoot: %v after %s, want unavailable after 15 s", err, took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.DisableRoot(ctx, instance); !errors.Is(err, context.Canceled) || trove.KindOf(err) != trove.KindInternal {
			t.Errorf("after cancel: %v", err)
		}
	})
}

func TestClientRefusesWrongAnswers(t *testing.T) {
	for name, result := range map[string]any{
		"another operation": guestapi.OperationStatus{ID: "other", State: guestapi.StateDone},
		"a strange state":   guestapi.OperationStatus{ID: "op", State: "sleeping"},
		"no object":         5,
		"nothing":           nil,
	} {
		c := serve(t, membus.New(), func(context.Context, guestapi.Request) (any, error) { return result, nil })
		if st, err := c.Status(t.Context(), instance, "op"); err == nil {
			t.Errorf("%s: accepted as %+v", name, st)
		}
	}
}

func TestServeStaysAnsweringWhileCommandsRun(t *testing.T) {
	synctest.Test(t, serveStaysAnsweringWhileCommandsRun)
}

func serveStaysAnsweringWhileCommandsRun(t *testing.T) {
	release := make(chan struct{})
	c := serve(t, membus.New(), func(_ context.Context, r guestapi.Request) (any, error) {
		if r.Command == guestapi.CmdVolume {
			<-release
		}
		return guestapi.OperationStatus{ID: "op", State: guestapi.StateUnknown}, nil
	})
	ended := make(chan error, 1)
	go func() { _, err := c.Volume(t.Context(), instance); ended <- err }()
	st, err := c.Status(t.Context(), instance, "op")
	close(release)
	if err != nil || st.State != guestapi.StateUnknown {
		t.Errorf("Status while another command runs: %+v, %v", st, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestServeAnswersOversizedResultsWithAFailure(t *testing.T) {
	c := serve(t, membus.New(), func(context.Context, guestapi.Request) (any, error) {
		return []trove.Database{{Name: strings.Repeat("x", guestapi.MaxMessage)}}, nil
	})
	if _, err := c.ListDatabases(t.Context(), instance); trove.KindOf(err) != trove.KindOverLimit {
		t.Errorf("result: %v, want over limit", err)
	}
	if err := c.DropDatabase(t.Context(), instance, strings.Repeat("x", guestapi.MaxMessage)); trove.KindOf(err) != trove.KindOverLimit {
		t.Errorf("arguments: %v, want over limit", err)
	}
}

// TestClientSendsLaterCommandsOnlyToAgentsThatListThem: an agent of the first release gets a sentence instead of a command that it does not know.
func TestClientSendsLaterCommandsOnlyToAgentsThatListThem(t *testing.T) {
	synctest.Test(t, clientSendsLaterCommandsOnlyToAgentsThatListThem)
}

func clientSendsLaterCommandsOnlyToAgentsThatListThem(t *testing.T) {
	var commands []guestapi.Command
	var got []guestapi.Command
	c := serve(t, membus.New(), func(_ context.Context, r guestapi.Request) (any, error) {
		got = append(got, r.Command)
		if r.Command == guestapi.CmdPing {
			return guestapi.Hello{BootID: "b", AgentVersion: "1.0.0", Protocol: 1, Engine: "mariadb", Commands: commands}, nil
		}
		return guestapi.OperationStatus{ID: r.ID, State: guestapi.StateRunning}, nil
	})
	_, err := c.Start(t.Context(), instance, "op/upgrade", guestapi.CmdUpgradeAgent, guestapi.UpgradeAgentArgs{})
	if trove.KindOf(err) != trove.KindNotImplemented || !trove.IsPermanent(err) || !strings.Contains(trove.MessageOf(err), "upgrade the agent first") {
		t.Errorf("an old agent: %v", err)
	}
	commands = []guestapi.Command{guestapi.CmdUpgradeAgent}
	if _, err := c.Start(t.Context(), instance, "op/upgrade", guestapi.CmdUpgradeAgent, guestapi.UpgradeAgentArgs{}); err != nil {
		t.Error(err)
	}
	if d := cmp.Diff([]guestapi.Command{guestapi.CmdPing, guestapi.CmdPing, guestapi.CmdUpgradeAgent}, got); d != "" {
		t.Error(d)
	}
}

// The guest has one command under the id, and whichever came first counts.
func TestWithdrawTakesTheIDOfACommandThatHasNotArrived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var conflict, away bool
		c := serve(t, membus.New(), func(_ context.Context, r guestapi.Request) (any, error) {
			switch {
			case r.ID != "op/engine" || r.Command != guestapi.CmdGrow || string(r.Args) != `{"size_gib":0}`:
				t.Errorf("the guest was given %+v", r)
			case conflict:
				return nil, trove.Errorf(trove.KindConflict, "Operation op/engine is another command, stop.")
			case away:
				return nil, trove.Errorf(trove.KindUnavailable, "The guest is busy.")
			}
			return guestapi.OperationStatus{ID: r.ID, State: guestapi.StateRunning}, nil
		})
		for name, want := range map[string]struct{ conflict, away bool }{"not arrived": {}, "arrived": {conflict: true}, "busy": {away: true}} {
			conflict, away = want.conflict, want.away
			if begun, err := c.Withdraw(t.Context(), instance, "op/engine"); begun != conflict || (err != nil) != away {
				t.Errorf("%s: begun %t, %v", name, begun, err)
			}
		}
	})
}
