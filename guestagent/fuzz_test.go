package guestagent_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/membus"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/fake"
	"github.com/trove-dbaas/trove/guestagent"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
)

// FuzzRequest gives an agent whatever may come over the bus: it answers, with a result or a failure that says something, and lives on.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		`{"v":1,"id":"1","command":"ping"}`,
		`{"v":1,"id":"1","command":"status","args":{"id":"x/y"}}`,
		`{"v":1,"id":"op/stop","command":"stop"}`,
		`{"v":1,"id":"op/grow","command":"grow","args":{"size_gib":-9223372036854775808}}`,
		`{"v":1,"id":"op/configure","command":"configure","args":{"overrides":{"a":[1,{}]}}}`,
		`{"v":1,"id":"op/prepare","command":"prepare","args":null}`,
		`{"v":1,"id":"../../x","command":"restart"}`,
		`{"v":1,"id":"2","command":"create-user","args":[{"name":"a","password":"b"}]}`,
		`{"v":1,"id":"3","command":"update-user","args":{"name":null,"new_name":"x"}}`,
		`{"v":1,"id":"4","command":"renew-identity","args":{"jwt":"x","expires":"never"}}`,
		`{"v":1,"id":"5","command":"logs"}`,
		`{"v":1,"id":"6","command":"set-log","args":{"name":"general","on":true}}`,
		`{"v":1,"id":"7","command":"publish-log","args":{"name":"error","from":-5,"grant":{"prefix":"../","max_bytes":-1}}}`,
		`{"v":1,"id":"8","command":"machine"}`,
		`{"v":1,"id":"9","command":"show-tls"}`,
		`{"v":1,"id":"10","command":"set-tls","args":{"mode":"mtls","cert":"x","key":null}}`,
		`{"v":1,"id":"11","command":"rollback-tls","args":[]}`,
		`{"v":1,"id":"11","command":"request-certificate"}`,
		`{"v":1,"id":"11","command":"use-certificate","args":{"certificate":"-----BEGIN CERTIFICATE-----"}}`,
		`{"v":1,"id":"8","command":"apply-configuration","args":{"revision":-1,"overrides":{"max_things":[{}],"":null}}}`,
		`{"v":1,"id":"12","command":"check-upgrade","args":{"version":"../../10"}}`,
		`{"v":1,"id":"op/keep","command":"keep-data"}`,
		`{"v":1,"id":"op/upgrade","command":"upgrade","args":{"previous":true,"overrides":{"a":null}}}`,
		`{"v":1,"id":"op/restore","command":"restore-data"}`,
		`{"v":1,"id":"op/drop","command":"drop-kept","args":[]}`,
		`{"v":1,"id":"op/finish","command":"finish-upgrade"}`,
		`{"v":1,"id":"12","command":"tail-log","args":{"name":"error","from":9223372036854775807,"file":"x","lines":-1}}`,
		`{"v":1,"id":"13","command":"metrics","args":{"series":-1}}`,
		`{"v":1,"id":"14","command":"statements","args":{"limit":1e3}}`,
		`{"v":1,"id":"15","command":"drift","args":{}}`,
		`{"v":0}`, `{`, `null`, ``, `[]`, "\xff\xfe",
	} {
		f.Add([]byte(seed))
	}
	agent := fuzzedAgent(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		answer, err := agent.ctl.Request(ctx, guestapi.CommandSubject(agent.id), data)
		if err != nil {
			t.Fatal(err)
		}
		var resp guestapi.Response
		if err := json.Unmarshal(answer, &resp); err != nil {
			t.Fatalf("%s: %v", answer, err)
		}
		if resp.V != guestapi.Version || (resp.Error != nil && (resp.Error.Message == "" || strings.Contains(resp.Error.Message, "%!"))) {
			t.Errorf("it was answered with %s", answer)
		}
	})
}

type fuzzed struct {
	id  string
	ctl bus.Conn
}

func fuzzedAgent(f *testing.F) fuzzed {
	f.Helper()
	dir, err := os.MkdirTemp("", "guest") // a socket's path must be short
	if err != nil {
		f.Fatal(err)
	}
	broker := membus.New()
	const id = "0b6a34c2-6b1d-4c57-8f6f-0d1f0a3c9a51"
	l := engine.Layout{Data: dir + "/data", Runtime: dir + "/run", State: dir + "/data/trove", UID: os.Getuid(), GID: os.Getgid()}
	for _, d := range []string{l.State, l.Runtime} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			f.Fatal(err)
		}
	}
	e := fake.New()
	e.RunScript("exec false") // whatever is prepared, no process is left
	a, err := guestagent.New(guestagent.Config{
		Instance: id, BootID: "boot", Version: "1", Engine: e, Layout: l, Timings: fast(), Clock: clock.System{},
		Connect: func(context.Context, func()) (bus.Conn, error) { return broker.Conn("guest"), nil },
		Log:     slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	f.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			f.Error(err)
		}
		_ = broker.Close()
		_ = os.RemoveAll(dir)
	})
	ctl := broker.Conn("controller")
	for !broker.Listening(guestapi.CommandSubject(id)) {
		_ = clock.Sleep(ctx, 1e6)
	}
	return fuzzed{id: id, ctl: ctl}
}
