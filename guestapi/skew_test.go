package guestapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/guestapi"
)

// lines reads what the first release said, one message a line.
func lines(t *testing.T, name string) []json.RawMessage {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata/first", name))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var all []json.RawMessage
	for s := bufio.NewScanner(f); s.Scan(); {
		all = append(all, json.RawMessage(s.Text()))
	}
	if len(all) == 0 {
		t.Fatalf("%s is empty", name)
	}
	return all
}

// TestReportsOfTheFirstReleaseAreRead: a controller understands what agents of the first release report, field by field.
func TestReportsOfTheFirstReleaseAreRead(t *testing.T) {
	for _, line := range lines(t, "reports.jsonl") {
		var r struct {
			Kind guestapi.ReportKind
			Data json.RawMessage
		}
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		var got any
		var err error
		switch r.Kind {
		case guestapi.ReportHello:
			got, err = guestapi.ParseHello(r.Data)
		case guestapi.ReportHeartbeat:
			got, err = guestapi.ParseHeartbeat(r.Data)
		default:
			got, err = guestapi.ParseOperationStatus(r.Data)
		}
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		covers(t, string(r.Kind), encode(t, got), r.Data)
	}
}

// covers checks that every field of the first release is in what is written now, with the same value.
func covers(t *testing.T, what string, now, first []byte) {
	t.Helper()
	var a, b any
	if json.Unmarshal(now, &a) != nil || json.Unmarshal(first, &b) != nil {
		t.Fatalf("%s: %s, %s", what, now, first)
	}
	if missing := missing(a, b, what); missing != "" {
		t.Errorf("%s\nnow   %s\nfirst %s", missing, now, first)
	}
}

func missing(now, first any, at string) string {
	switch f := first.(type) {
	case map[string]any:
		n, ok := now.(map[string]any)
		if !ok {
			return at + " is no object any more"
		}
		for k := range maps.Keys(f) {
			if m := missing(n[k], f[k], at+"."+k); m != "" {
				return m
			}
		}
	case []any:
		n, ok := now.([]any)
		if !ok || len(n) != len(f) {
			return at + " is another list"
		}
		for i := range f {
			if m := missing(n[i], f[i], at+"[]"); m != "" {
				return m
			}
		}
	default:
		if !reflect.DeepEqual(now, first) {
			return at + " has another value, or is gone"
		}
	}
	return ""
}

// tape keeps what a client sends.
type tape struct{ sent []json.RawMessage }

func (p *tape) Publish(context.Context, string, []byte) error { return nil }

func (p *tape) Subscribe(context.Context, string, string, bus.Handler) (func(), error) {
	return func() {}, nil
}

func (p *tape) Close() error { return nil }

func (p *tape) Request(_ context.Context, _ string, data []byte) ([]byte, error) {
	p.sent = append(p.sent, data)
	return []byte(`{"v":1}`), nil
}

// TestCommandsAreThoseOfTheFirstRelease gives the commands as the first release's test did: agents of it find all that they know in them.
func TestCommandsAreThoseOfTheFirstRelease(t *testing.T) {
	p := &tape{}
	c, ctx := guestapi.NewClient(p), t.Context()
	name, host, pass := "web", "10.0.0.8", "n3w"
	bert := guestapi.UserRef{Name: "bert"}
	_, _ = c.Start(ctx, instance, "op/prepare", guestapi.CmdPrepare, guestapi.PrepareArgs{
		ServerID: 7, RAM: 512, VCPUs: 1, Databases: []trove.Database{{Name: "shop", CharacterSet: "utf8mb4", Collate: "utf8mb4_bin"}},
		Users:        []guestapi.UserArgs{{Name: "anna", Host: "%", Password: "pw", Databases: []string{"shop"}}},
		RootPassword: "rootpw", Overrides: map[string]json.RawMessage{"max_connections": json.RawMessage("55")},
	})
	_, _ = c.Status(ctx, instance, "op/prepare")
	_, _ = c.Start(ctx, instance, "op/configure", guestapi.CmdConfigure, guestapi.ConfigureArgs{ServerID: 7, RAM: 1024, VCPUs: 2, Restart: true})
	_, _ = c.Start(ctx, instance, "op/grow", guestapi.CmdGrow, guestapi.GrowArgs{SizeGiB: 1})
	_, _ = c.Start(ctx, instance, "op/restart", guestapi.CmdRestart, nil)
	_, _ = c.Ping(ctx, instance)
	_ = c.CreateDatabases(ctx, instance, []trove.Database{{Name: "extra"}})
	_, _ = c.ListDatabases(ctx, instance)
	_ = c.CreateUsers(ctx, instance, []guestapi.UserArgs{{Name: "bert", Password: "pw", Databases: []string{"extra"}}})
	_, _ = c.ListUsers(ctx, instance)
	_ = c.Grant(ctx, instance, bert, []string{"shop"})
	_ = c.Revoke(ctx, instance, bert, "shop")
	_ = c.UpdateUser(ctx, instance, guestapi.UpdateUserArgs{UserRef: bert, NewName: &name, NewHost: &host, NewPassword: &pass})
	_ = c.DropUser(ctx, instance, guestapi.UserRef{Name: name, Host: host})
	_ = c.DropDatabase(ctx, instance, "extra")
	_ = c.EnableRoot(ctx, instance, "secret")
	_, _ = c.RootEnabled(ctx, instance)
	_ = c.DisableRoot(ctx, instance)
	_, _ = c.Volume(ctx, instance)
	_, _ = c.Start(ctx, instance, "op/stop", guestapi.CmdStop, nil)
	first := lines(t, "requests.jsonl")
	if len(p.sent) != len(first) {
		t.Fatalf("%d messages are sent, the first release sent %d: a first command asks nothing before it", len(p.sent), len(first))
	}
	for n := range first {
		var was, is map[string]any
		if json.Unmarshal(first[n], &was) != nil || json.Unmarshal(p.sent[n], &is) != nil {
			t.Fatal(n)
		}
		if id, _ := was["id"].(string); !strings.Contains(id, "/") { // of a short command: made anew each time
			was["id"] = is["id"]
		}
		covers(t, strings.ToUpper(was["command"].(string)), p.sent[n], encode(t, was))
	}
}
