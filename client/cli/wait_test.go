package cli_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client/cli"
)

// course makes the watched operation go through the states, one a poll; the last one stays.
func course(states ...wire.Operation) func(string) (wire.Operation, int) {
	n := 0
	return func(string) (wire.Operation, int) {
		op := states[min(n, len(states)-1)]
		n++
		op.ID, op.Kind, op.Version, op.Created = opID, "instance.restart", int64(n), epoch
		op.Updated = epoch.Add(time.Duration(n) * time.Second)
		return op, 0
	}
}

func open(percent int, step, sentence string) wire.Operation {
	return wire.Operation{State: "open", Percent: percent, Step: step, Sentence: sentence}
}

var usual = []wire.Operation{
	open(0, "network", "network"),
	open(10, "volume", ""),
	open(10, "volume", ""),
	open(40, "engine", "The engine starts."),
	{State: "open", Percent: 30, Step: "volume", Sentence: "The volume is removed.", Undoing: true},
	{State: "done", Percent: 100, Step: "engine", Sentence: "Engine."},
}

func TestWaitShowsEachChange(t *testing.T) {
	api := newFakeAPI()
	api.polls = course(usual...)
	s := newShell(api)
	s.must(t, "instance", "restart", "shop", "--wait")
	want := `  0 % network (1.0 s)
 10 % volume (2.0 s)
 40 % engine: The engine starts. (4.0 s)
 30 % undoing volume: The volume is removed. (5.0 s)
100 % engine (6.0 s)
`
	if diff := cmp.Diff(want, s.stderr.String()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestWaitDrawsOneLineOnATerminal(t *testing.T) {
	api := newFakeAPI()
	long := strings.Repeat("ü", 100)
	api.polls = course(open(10, "volume", ""), open(50, "engine", long), wire.Operation{State: "done", Percent: 100, Step: "engine"})
	s := newShell(api)
	s.env.Interactive = true
	s.must(t, "instance", "restart", "shop", "--wait")
	want := "\r\x1b[K[##..................]  10 % (1.0 s) volume" +
		"\r\x1b[K[##########..........]  50 % (2.0 s) engine: " + strings.Repeat("ü", 33) + "…" + // 79 columns
		"\r\x1b[K[####################] 100 % (3.0 s) engine\n"
	if diff := cmp.Diff(want, s.stderr.String()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestWaitTellsWhyAnOperationFailed(t *testing.T) {
	for state, reason := range map[string]string{"failed": "The disk is full.", "undone": ""} {
		api := newFakeAPI()
		api.polls = course(wire.Operation{State: state, Step: "volume", Error: reason})
		message, code := cli.Explain(newShell(api).run(t, "instance", "restart", "shop", "--wait"))
		if reason == "" {
			reason = "no reason was given."
		}
		want := "instance.restart of shop failed: " + reason + " `trove operation show " + shopID + " " + opID + "` has the timeline."
		if message != want || code != cli.ExitFailed {
			t.Errorf("exit code %d: %q", code, message)
		}
	}
}

func TestWaitForADeletionEndsWithTheInstance(t *testing.T) {
	api := newFakeAPI()
	polls := 0
	api.polls = func(string) (wire.Operation, int) {
		if polls++; polls > 2 {
			return wire.Operation{}, http.StatusNotFound
		}
		return open(50, "server", "server"), 0
	}
	newShell(api).must(t, "instance", "delete", "shop", "--wait")
	if polls != 3 {
		t.Errorf("%d polls", polls)
	}
	polls = 0
	if _, code := cli.Explain(newShell(api).run(t, "instance", "restart", "shop", "--wait")); code != cli.ExitFailed {
		t.Errorf("an instance that went away during a restart: exit code %d", code)
	}
}

// troubled is a service that is away for some of the polls of an operation.
type troubled struct {
	*fakeAPI
	polls   int
	trouble func(poll int, r *http.Request) (*http.Response, error) // nil, nil: none
}

func (s *troubled) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.Contains(r.URL.Path, "/operations/") {
		s.polls++
		if resp, err := s.trouble(s.polls, r); resp != nil || err != nil {
			return resp, err
		}
	}
	return s.fakeAPI.RoundTrip(r)
}

type brokenBody struct{}

func (brokenBody) Read([]byte) (int, error) { return 0, errors.New("connection reset by peer") }
func (brokenBody) Close() error             { return nil }

func away(poll int, r *http.Request) (*http.Response, error) {
	switch poll {
	case 2, 3, 4:
		return answer{500 + poll, ""}.RoundTrip(r) // 502, 503, 504
	case 5, 6, 7:
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	case 8:
		return &http.Response{StatusCode: http.StatusOK, Body: brokenBody{}, Request: r}, nil
	case 9:
		return nil, errors.New("unexpected EOF")
	}
	return nil, nil
}

func TestWaitSurvivesARestartOfTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI()
		api.fakePolls(open(10, "volume", ""), wire.Operation{State: "done", Percent: 100, Step: "engine"})
		s := newShell(&troubled{fakeAPI: api, trouble: away})
		s.must(t, "instance", "restart", "shop", "--wait")
		want := " 10 % volume (1.0 s)\nThe server is away; trying again for 60 s.\n100 % engine (2.0 s)\n"
		if diff := cmp.Diff(want, s.stderr.String()); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	})
}

func (f *fakeAPI) fakePolls(states ...wire.Operation) { f.polls = course(states...) }

func TestWaitGivesUpAfterAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newFakeAPI()
		api.fakePolls(open(10, "volume", ""))
		s := newShell(&troubled{fakeAPI: api, trouble: func(poll int, _ *http.Request) (*http.Response, error) {
			if poll > 1 {
				return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
			}
			return nil, nil
		}})
		start := time.Now()
		message, code := cli.Explain(s.run(t, "instance", "restart", "shop", "--wait"))
		if took := time.Since(start); took < time.Minute || took > 70*time.Second {
			t.Errorf("gave up after %s", took)
		}
		if !strings.HasPrefix(message, "Nothing listens on cloud.test") || code != cli.ExitFailed {
			t.Errorf("exit code %d: %q", code, message)
		}
	})
}

func TestWaitDoesNotRepeatWhatIsWrong(t *testing.T) {
	api := newFakeAPI()
	polls := 0
	api.polls = func(string) (wire.Operation, int) { polls++; return wire.Operation{}, http.StatusForbidden }
	if err := newShell(api).run(t, "instance", "restart", "shop", "--wait"); err == nil || polls != 1 {
		t.Errorf("%d polls: %v", polls, err)
	}
}

// interrupted makes the second poll of an operation last until the user has had enough.
func interrupted(t *testing.T, args ...string) (*shell, error) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	api := newFakeAPI()
	api.fakePolls(open(10, "volume", ""))
	s := newShell(&troubled{fakeAPI: api, trouble: func(poll int, r *http.Request) (*http.Response, error) {
		if poll < 2 {
			return nil, nil
		}
		stop()
		<-r.Context().Done()
		return nil, r.Context().Err()
	}})
	root := s.command()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	for _, c := range api.asked() {
		if strings.Contains(c, "cancel") {
			t.Errorf("the operation is cancelled: %s", c)
		}
	}
	return s, err
}

func TestInterruptedWaitSaysHowToGoOn(t *testing.T) {
	_, err := interrupted(t, "instance", "restart", "shop", "--wait")
	message, code := cli.Explain(err)
	want := "Not waiting any more; the work on shop goes on: `trove operation list shop` shows it, `trove operation cancel shop " + opID + "` stops it."
	if message != want || code != cli.ExitFailed || !errors.Is(err, context.Canceled) {
		t.Errorf("exit code %d: %q", code, message)
	}
}

func TestInterruptedCreateStillShowsTheMadePassword(t *testing.T) {
	s, err := interrupted(t, "instance", "create", "shop", "--flavor", "1", "--user", "app", "--wait")
	if message, _ := cli.Explain(err); !strings.HasPrefix(message, "Not waiting any more") {
		t.Errorf("error %v", err)
	}
	if !strings.Contains(s.stdout.String(), "| password ") {
		t.Errorf("nobody knows the password:\n%s", s.stdout.String())
	}
}

// noticing calls a function when a text is written.
type noticing struct {
	strings.Builder
	text   string
	notice func()
}

func (n *noticing) Write(p []byte) (int, error) {
	if strings.Contains(string(p), n.text) {
		n.notice()
	}
	return n.Builder.Write(p)
}

func TestWaitOverARealConnection(t *testing.T) {
	api := newFakeAPI()
	server := httptest.NewServer(api.mux)
	defer server.Close()
	var polls atomic.Int32 // two servers ask it
	api.polls = func(string) (wire.Operation, int) {
		switch polls.Add(1) {
		case 1:
			return open(10, "volume", ""), 0
		case 2:
			_ = server.Listener.Close() // nothing listens now
			panic(http.ErrAbortHandler) // and the connection is cut in the middle of the long poll
		}
		return wire.Operation{ID: opID, State: "done", Percent: 100, Step: "engine", Created: epoch, Updated: epoch}, 0
	}
	again := httptest.NewUnstartedServer(api.mux)
	defer again.Close()
	_ = again.Listener.Close()
	s := newShell(nil)
	stderr := &noticing{text: "The server is away", notice: func() {
		l, err := net.Listen("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Errorf("the port was taken by somebody else: %v", err)
			return
		}
		again.Listener = l
		again.Start()
	}}
	s.env.HTTP, s.env.Stderr = nil, stderr
	s.vars["OS_AUTH_URL"] = server.URL + "/identity/v3"
	s.must(t, "instance", "restart", "shop", "--wait")
	want := " 10 % volume (0.0 s)\nThe server is away; trying again for 60 s.\n100 % engine (0.0 s)\n"
	if diff := cmp.Diff(want, stderr.String()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
