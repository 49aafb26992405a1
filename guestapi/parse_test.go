package guestapi_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/guestapi"
)

func TestParseHeartbeatLimits(t *testing.T) {
	good := guestapi.Heartbeat{
		BootID: "b", Seq: 3, Service: trove.ServiceHealthy, AgentVersion: "1", EngineStart: 5, VolumeUsed: 1, VolumeTotal: 2, Event: "crashed",
	}
	got, err := guestapi.ParseHeartbeat(encode(t, good))
	if err != nil || cmp.Diff(good, got) != "" {
		t.Fatal(err, cmp.Diff(good, got))
	}
	for name, change := range map[string]func(*guestapi.Heartbeat){
		"no boot id":        func(h *guestapi.Heartbeat) { h.BootID = "" },
		"long boot id":      func(h *guestapi.Heartbeat) { h.BootID = strings.Repeat("x", 65) },
		"boot id with tab":  func(h *guestapi.Heartbeat) { h.BootID = "a\tb" },
		"long version":      func(h *guestapi.Heartbeat) { h.AgentVersion = strings.Repeat("x", 65) },
		"negative seq":      func(h *guestapi.Heartbeat) { h.Seq = -1 },
		"unknown service":   func(h *guestapi.Heartbeat) { h.Service = "fine" },
		"negative used":     func(h *guestapi.Heartbeat) { h.VolumeUsed = -1 },
		"negative total":    func(h *guestapi.Heartbeat) { h.VolumeTotal = -1 },
		"negative start":    func(h *guestapi.Heartbeat) { h.EngineStart = -1 },
		"report over 64 KB": func(h *guestapi.Heartbeat) { h.Event = strings.Repeat("x", 65<<10) },
	} {
		bad := good
		change(&bad)
		if _, err := guestapi.ParseHeartbeat(encode(t, bad)); trove.KindOf(err) != trove.KindBadRequest {
			t.Errorf("%s: %v, want bad request", name, err)
		}
	}
}

func TestParseHelloLimits(t *testing.T) {
	good := guestapi.Hello{BootID: "b", AgentVersion: "1", Protocol: 1, Engine: "mariadb", Commands: []guestapi.Command{guestapi.CmdPing}}
	if _, err := guestapi.ParseHello(encode(t, good)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*guestapi.Hello){
		"no boot id":    func(h *guestapi.Hello) { h.BootID = "" },
		"no version":    func(h *guestapi.Hello) { h.AgentVersion = "" },
		"no engine":     func(h *guestapi.Hello) { h.Engine = "" },
		"no protocol":   func(h *guestapi.Hello) { h.Protocol = 0 },
		"many commands": func(h *guestapi.Hello) { h.Commands = make([]guestapi.Command, 129) },
		"empty command": func(h *guestapi.Hello) { h.Commands = []guestapi.Command{""} },
	} {
		bad := good
		change(&bad)
		if _, err := guestapi.ParseHello(encode(t, bad)); trove.KindOf(err) != trove.KindBadRequest {
			t.Errorf("%s: %v, want bad request", name, err)
		}
	}
}

func TestParseOperationStatusLimits(t *testing.T) {
	good := guestapi.OperationStatus{ID: "op/prepare", State: guestapi.StateRunning, Percent: 100}
	if _, err := guestapi.ParseOperationStatus(encode(t, good)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*guestapi.OperationStatus){
		"no id":          func(s *guestapi.OperationStatus) { s.ID = "" },
		"id with space":  func(s *guestapi.OperationStatus) { s.ID = "a b" },
		"unknown":        func(s *guestapi.OperationStatus) { s.State = guestapi.StateUnknown },
		"strange state":  func(s *guestapi.OperationStatus) { s.State = "x" },
		"percent 101":    func(s *guestapi.OperationStatus) { s.Percent = 101 },
		"percent -1":     func(s *guestapi.OperationStatus) { s.Percent = -1 },
		"a large result": func(s *guestapi.OperationStatus) { s.Result = encode(t, strings.Repeat("x", 33<<10)) },
	} {
		bad := good
		change(&bad)
		if _, err := guestapi.ParseOperationStatus(encode(t, bad)); trove.KindOf(err) != trove.KindBadRequest {
			t.Errorf("%s: %v, want bad request", name, err)
		}
	}
	if _, err := guestapi.ParseOperationStatus([]byte(`{"id":"a","state":"done","result":"` + "\xff" + `"}`)); trove.KindOf(err) != trove.KindBadRequest {
		t.Errorf("a result that is no text: %v, want bad request", err)
	}
	failed, err := guestapi.ParseOperationStatus([]byte(`{"id":"a","state":"failed","error":{"kind":2,"message":"a\u0000b\u001b[31m"}}`))
	if err != nil || failed.Error.Kind != trove.KindInternal || failed.Error.Message != "ab[31m" {
		t.Errorf("failure: %+v, %v", failed.Error, err)
	}
	if silent, err := guestapi.ParseOperationStatus([]byte(`{"id":"a","state":"failed"}`)); err != nil || silent.Error == nil {
		t.Errorf("failure without reason: %+v, %v", silent, err)
	}
}

func TestParseReportSubject(t *testing.T) {
	id, kind, ok := guestapi.ParseReportSubject(guestapi.ReportSubject(instance, guestapi.ReportEnd))
	if id != instance || kind != guestapi.ReportEnd || !ok {
		t.Fatalf("got %q %q %v", id, kind, ok)
	}
	for _, s := range []string{
		"", "trove.v1.ctl.wake", guestapi.CommandSubject(instance), guestapi.ReportSubject("*", "hb"), guestapi.ReportSubject(instance, ""),
		guestapi.ReportSubject(instance, "a.b"), "x" + guestapi.ReportSubject(instance, "hb"),
	} {
		if _, _, ok := guestapi.ParseReportSubject(s); ok {
			t.Errorf("%q was accepted", s)
		}
	}
}

func TestNewFailureKeepsKindAndSentence(t *testing.T) {
	if d := cmp.Diff(&guestapi.Failure{Kind: trove.KindConflict, Message: "Exists."},
		guestapi.NewFailure(trove.Wrap(trove.KindConflict, errors.New("cause"), "Exists."))); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(&guestapi.Failure{Kind: trove.KindInternal, Message: "disk full"}, guestapi.NewFailure(errors.New("disk full"))); d != "" {
		t.Error(d)
	}
}

// FuzzReports holds every parser of what a guest sends to its promise: no panic, and what is accepted is within the limits.
func FuzzReports(f *testing.F) {
	for _, seed := range []string{
		`{"boot_id":"b","seq":1,"service":"healthy","agent_version":"1"}`,
		`{"boot_id":"b","agent_version":"1","protocol":1,"engine":"mariadb","commands":["ping"]}`,
		`{"id":"a/b","state":"failed","percent":3,"error":{"kind":4,"message":"x"},"result":{"a":1}}`,
		`{"v":1,"id":"a","command":"ping","args":null}`, `[]`, `null`, `{"percent":1e99}`, "{\"event\":\"\xff\\u0000\"}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		text := func(s string) {
			if len(s) > 4096 || !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
				t.Errorf("text %q got through", s)
			}
		}
		id := func(s string, limit int) {
			if s == "" || len(s) > limit || strings.ContainsAny(s, " \n\x00") {
				t.Errorf("identifier %q got through", s)
			}
		}
		if h, err := guestapi.ParseHeartbeat(data); err == nil {
			id(h.BootID, 64)
			text(h.Event)
			if !h.Service.Valid() || h.VolumeUsed < 0 || h.VolumeTotal < 0 || h.Seq < 0 {
				t.Errorf("heartbeat %+v got through", h)
			}
		}
		if h, err := guestapi.ParseHello(data); err == nil {
			id(h.BootID, 64)
			id(h.Engine, 64)
		}
		if s, err := guestapi.ParseOperationStatus(data); err == nil {
			id(s.ID, 128)
			text(s.Sentence)
			if s.Percent < 0 || s.Percent > 100 || s.State == guestapi.StateFailed && s.Error == nil {
				t.Errorf("status %+v got through", s)
			}
			if s.Error != nil {
				text(s.Error.Message)
			}
		}
		if r, err := guestapi.DecodeRequest(data); err == nil {
			id(r.ID, 128)
			id(string(r.Command), 64)
		}
	})
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
