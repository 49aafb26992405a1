package api_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/backupstore/mem"
	"github.com/trove-dbaas/trove/gateway/grant"
	"github.com/trove-dbaas/trove/guestapi"
)

// fakeLog is a log of a fake guest.
type fakeLog struct {
	name            string
	system, enabled bool
	text            string
	onEnable        string // written when it is switched on
}

// fakeLogs are the logs of guests, with the store that they publish to.
type fakeLogs struct {
	objects backupstore.Store

	mu     sync.Mutex
	of     map[string][]*fakeLog
	grants map[string]grant.Spec // by prefix
	lie    func(*guestapi.LogPublished)
	meet   *sync.WaitGroup // not nil: publications wait for each other here
	tailed chan struct{}   // has room for two: the guest was asked for the end of a log
}

func newFakeLogs() *fakeLogs {
	return &fakeLogs{objects: mem.New(), of: map[string][]*fakeLog{}, grants: map[string]grant.Spec{}, tailed: make(chan struct{}, 2)}
}

func (f *fakeLogs) Issue(_ context.Context, s grant.Spec) (guestapi.Grant, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.grants[s.Prefix] = s
	return guestapi.Grant{URLs: []string{"https://gateway.example"}, Method: s.Method, Prefix: s.Prefix, MaxBytes: s.MaxBytes, Token: "token"}, nil
}

// logs returns those of an instance: what the recording's guest had, where a test has not set others. The caller holds the lock.
func (f *fakeLogs) logs(instance string) []*fakeLog {
	if f.of[instance] == nil {
		f.of[instance] = []*fakeLog{{name: "general"}, {name: "slow_query", onEnable: strings.Repeat("x", 1023) + "\n"}}
	}
	return f.of[instance]
}

func (f *fakeLogs) find(instance, name string) (*fakeLog, error) {
	for _, l := range f.logs(instance) {
		if l.name == name {
			return l, nil
		}
	}
	return nil, trove.Errorf(trove.KindNotFound, "Log %s is not defined.", name)
}

func header(text string) string {
	first, _, ok := strings.Cut(text, "\n")
	if !ok {
		return ""
	}
	sum := sha256.Sum256([]byte(first))
	return hex.EncodeToString(sum[:])
}

func (f *fakeLogs) Logs(_ context.Context, instance string) ([]guestapi.LogState, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []guestapi.LogState
	for _, l := range f.logs(instance) {
		all = append(all, guestapi.LogState{
			Name: l.name, System: l.system, Enabled: l.enabled, File: "/log/" + l.name, Size: int64(len(l.text)), Header: header(l.text),
		})
	}
	return all, nil
}

func (f *fakeLogs) SetLog(_ context.Context, instance, name string, on bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	l, err := f.find(instance, name)
	if err != nil {
		return err
	}
	l.enabled = on
	if on {
		l.text += l.onEnable
		l.onEnable = ""
	}
	return nil
}

func (f *fakeLogs) PublishLog(ctx context.Context, instance string, args guestapi.PublishLogArgs) (guestapi.LogPublished, error) {
	f.mu.Lock()
	l, err := f.find(instance, args.Name)
	spec := f.grants[args.Grant.Prefix]
	lie, meet := f.lie, f.meet
	f.mu.Unlock()
	if meet != nil {
		meet.Done()
		meet.Wait()
	}
	if err != nil {
		return guestapi.LogPublished{}, err
	}
	done := guestapi.LogPublished{From: args.From, To: args.From, Header: header(l.text)}
	if args.Header != done.Header || int(args.From) > len(l.text) {
		done.Restarted, done.From, done.To = args.Header != "", 0, 0
	}
	const size = 1000 // a line of the recording's log is longer: parts are whole lines
	for rest := l.text[done.To:]; rest != ""; {
		n := strings.LastIndexByte(rest[:min(size, len(rest))], '\n') + 1
		if n == 0 {
			n = strings.IndexByte(rest, '\n') + 1
		}
		name := fmt.Sprintf("%s%05d", args.Grant.Prefix, len(done.Segments)+1)
		o, err := f.objects.Put(ctx, spec.Container, name, strings.NewReader(rest[:n]), backupstore.PutOptions{Size: -1, IfAbsent: true})
		if err != nil {
			return done, err
		}
		done.Segments = append(done.Segments, guestapi.LogSegment{Name: name, Size: o.Size, Lines: int64(strings.Count(rest[:n], "\n")), SHA256: o.SHA256})
		done.To += o.Size
		rest = rest[n:]
	}
	if lie != nil {
		lie(&done)
	}
	return done, nil
}

// logWorld is a world with an instance whose error log has a few lines.
type logWorld struct {
	*world
	t *testing.T
}

func newLogWorld(t *testing.T) *logWorld {
	t.Helper()
	w := newWorld(t, nil, nil)
	w.addLab(t)
	w.guests.of[labID] = []*fakeLog{{name: "error", system: true, enabled: true}, {name: "general"}}
	return &logWorld{w, t}
}

func (w *logWorld) write(log, text string) {
	w.guests.fakeLogs.mu.Lock()
	defer w.guests.fakeLogs.mu.Unlock()
	f := w.guests.fakeLogs
	l, err := f.find(labID, log)
	if err != nil {
		w.t.Fatal(err)
	}
	l.text += text
}

// ask sends a request of a caller about the instance's logs.
func (w *logWorld) ask(caller, method, path, body string) (status int, text string) {
	w.t.Helper()
	rec := w.world.ask(w.t, caller, method, "/instances/"+labID+"/log"+path, body)
	return rec.Code, rec.Body.String()
}

func (w *logWorld) act(body string) wire.Log {
	w.t.Helper()
	status, text := w.ask("member", http.MethodPost, "", body)
	if status != http.StatusOK {
		w.t.Fatalf("%s: %d %s", body, status, text)
	}
	var out wire.LogBody
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		w.t.Fatal(err)
	}
	return out.Log
}

func (w *logWorld) read(query string) string {
	w.t.Helper()
	status, text := w.ask("member", http.MethodGet, "/error/contents"+query, "")
	if status != http.StatusOK {
		w.t.Fatalf("read: %d %s", status, text)
	}
	return text
}

// names are all names in the instance's project.
func (w *logWorld) names() []string {
	w.t.Helper()
	all, err := w.guests.objects.List(w.t.Context(), backupstore.Container{Project: project, Name: trove.LogContainer}, backupstore.ListOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	names := []string{}
	for _, o := range all {
		names = append(names, o.Name)
	}
	return names
}

func lines(from, to int) string {
	var b bytes.Buffer
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "line %d of the error log\n", i)
	}
	return b.String()
}

func TestPublishedLogIsReadBack(t *testing.T) {
	w := newLogWorld(t)
	if status, _ := w.ask("member", http.MethodGet, "/error/contents", ""); status != http.StatusNotFound {
		t.Errorf("before anything was published: %d", status)
	}
	w.write("error", lines(0, 100))
	got := w.act(`{"name": "error"}`)
	want := wire.Log{Name: "error", Type: "SYS", Status: "Ready", Pending: int64(len(lines(0, 100))), Container: "None", Prefix: "None", Metafile: labID + "/mysql-error_metafile"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("before (-want +got):\n%s", diff)
	}
	got = w.act(`{"name": "error", "publish": 1}`)
	want.Status, want.Published, want.Pending, want.Container, want.Prefix = "Published", want.Pending, 0, "database_logs", labID+"/mysql-error/"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("after (-want +got):\n%s", diff)
	}
	if text := w.read(""); text != lines(0, 100) {
		t.Errorf("%d bytes came back, want %d", len(text), len(lines(0, 100)))
	}
	before := len(w.names())
	w.act(`{"name": "error", "publish": 1}`)
	if now := len(w.names()); now != before {
		t.Errorf("nothing new, and %d objects became %d", before, now)
	}
	w.write("error", lines(100, 150))
	if got := w.act(`{"name": "error"}`); got.Status != "Partial" || got.Pending != int64(len(lines(100, 150))) {
		t.Errorf("with new lines: %+v", got)
	}
	w.act(`{"name": "error", "publish": 1}`)
	if text := w.read(""); text != lines(0, 150) {
		t.Error("after a second publication the text is another one")
	}
	for n, query := range map[int]string{1: "?lines=1", 7: "?lines=7", 60: "?lines=60", 150: "?lines=1000"} {
		if text := w.read(query); text != lines(150-n, 150) {
			t.Errorf("%s: %q", query, text)
		}
	}
	if status, _ := w.ask("member", http.MethodGet, "/error/contents?lines=0", ""); status != http.StatusBadRequest {
		t.Errorf("no lines: %d", status)
	}
}

func TestLogThatWasBegunAnew(t *testing.T) {
	w := newLogWorld(t)
	w.write("error", lines(0, 10))
	w.act(`{"name": "error", "publish": 1}`)
	w.guests.fakeLogs.mu.Lock()
	w.guests.of[labID][0].text = lines(500, 520)
	w.guests.fakeLogs.mu.Unlock()
	if got := w.act(`{"name": "error"}`); got.Status != "Rotated" || got.Pending != int64(len(lines(500, 520))) {
		t.Errorf("begun anew: %+v", got)
	}
	if got := w.act(`{"name": "error", "publish": 1}`); got.Status != "Published" {
		t.Errorf("published: %+v", got)
	}
	if text := w.read(""); text != lines(0, 10)+lines(500, 520) {
		t.Errorf("the text is %q", text)
	}
}

func TestDiscardLeavesNothing(t *testing.T) {
	w := newLogWorld(t)
	w.write("error", lines(0, 100))
	w.act(`{"name": "error", "publish": 1}`)
	if got := w.act(`{"name": "error", "discard": 1}`); got.Published != 0 || got.Status != "Ready" || got.Container != "None" {
		t.Errorf("discarded: %+v", got)
	}
	if diff := cmp.Diff([]string{}, w.names()); diff != "" {
		t.Errorf("left:\n%s", diff)
	}
	if got := w.act(`{"name": "error", "discard": 1, "publish": 1}`); got.Status != "Published" {
		t.Errorf("discarded and published: %+v", got)
	}
}

func TestUserLogsAreSwitched(t *testing.T) {
	w := newLogWorld(t)
	for _, step := range []struct{ body, status string }{
		{`{"name": "general"}`, "Disabled"},
		{`{"name": "general", "enable": 1}`, "Enabled"},
		{`{"name": "general", "disable": 1}`, "Disabled"},
		{`{"name": "general", "publish": 1}`, "Enabled"}, // it publishes nothing, and enables
		{`{"name": "general", "publish": 1, "disable": 1}`, "Disabled"},
		{`{"name": "general", "enable": 0, "disable": false, "publish": null}`, "Disabled"},
	} {
		if got := w.act(step.body); got.Status != step.status {
			t.Errorf("%s: %s, want %s", step.body, got.Status, step.status)
		}
	}
	for _, body := range []string{`{"name": "error", "enable": 1}`, `{"name": "error", "disable": 1}`, `{"name": "none"}`, `{"name": "../x"}`, `{"name": "general", "enable": 1, "disable": 1}`, `{}`, `{"name": {}}`} {
		if status, text := w.ask("member", http.MethodPost, "", body); status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", body, status, text)
		}
	}
}

// TestLogsAreTheOwners asks as somebody else, and for names that lead elsewhere.
func TestLogsAreTheOwners(t *testing.T) {
	w := newLogWorld(t)
	w.write("error", lines(0, 10))
	w.act(`{"name": "error", "publish": 1}`)
	for _, path := range []string{"", "/error/objects", "/error/contents"} {
		if status, _ := w.ask("other", http.MethodGet, path, ""); status != http.StatusNotFound {
			t.Errorf("another project reads %q: %d", path, status)
		}
		if status, _ := w.ask("admin_other", http.MethodGet, path, ""); status != http.StatusOK {
			t.Errorf("an administrator reads %q: %d", path, status)
		}
	}
	if status, _ := w.ask("other", http.MethodPost, "", `{"name": "error", "discard": 1}`); status != http.StatusNotFound {
		t.Errorf("another project discards: %d", status)
	}
	for _, name := range []string{"..", "%2e%2e", "error%2F..%2Ferror", "..%2f..%2fx", "error_published", "error%00", ".", "x%5c..%5cerror"} {
		if status, text := w.ask("member", http.MethodGet, "/"+name+"/contents", ""); status != http.StatusNotFound {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
}

// TestGuestThatLies reports what it has not written: nothing is recorded, and nothing of it stays.
func TestGuestThatLies(t *testing.T) {
	for what, lie := range map[string]func(*guestapi.LogPublished){
		"another's object": func(p *guestapi.LogPublished) { p.Segments[0].Name = labID + "/mysql-error_metafile" },
		"no object":        func(p *guestapi.LogPublished) { p.Segments[0].Name += "x" },
		"size":             func(p *guestapi.LogPublished) { p.Segments[0].Size++ },
		"hash":             func(p *guestapi.LogPublished) { p.Segments[0].SHA256 = strings.Repeat("0", 64) },
		"position":         func(p *guestapi.LogPublished) { p.To += 1000 },
	} {
		w := newLogWorld(t)
		w.write("error", lines(0, 100))
		w.guests.lie = lie
		if status, _ := w.ask("member", http.MethodPost, "", `{"name": "error", "publish": 1}`); status != http.StatusInternalServerError {
			t.Errorf("%s: %d", what, status)
		}
		if diff := cmp.Diff([]string{}, w.names()); diff != "" {
			t.Errorf("%s left:\n%s", what, diff)
		}
		w.guests.lie = nil
		if got := w.act(`{"name": "error", "publish": 1}`); got.Status != "Published" || w.read("") != lines(0, 100) {
			t.Errorf("%s, then the truth: %+v", what, got)
		}
	}
}

// TestPublicationsAtOnce lets several calls publish the same lines: each line is there once, and nothing is left of the losers.
func TestPublicationsAtOnce(t *testing.T) {
	w := newLogWorld(t)
	w.write("error", lines(0, 200))
	var all, meet sync.WaitGroup
	meet.Add(6)
	w.guests.meet = &meet
	for range 6 {
		all.Go(func() {
			status, text := w.ask("member", http.MethodPost, "", `{"name": "error", "publish": 1}`)
			if !slices.Contains([]int{http.StatusOK, http.StatusConflict}, status) {
				t.Errorf("%d %s", status, text)
			}
		})
	}
	all.Wait()
	if text := w.read(""); text != lines(0, 200) {
		t.Errorf("%d bytes came back, want %d", len(text), len(lines(0, 200)))
	}
	parts := 0
	for _, name := range w.names() {
		if strings.Contains(name, "/mysql-error/") {
			parts++
		}
	}
	if want := (len(lines(0, 200)) + 999) / 1000; parts != want {
		t.Errorf("%d parts are stored, want %d: those of the losers must go", parts, want)
	}
}

func TestOldPublicationsGo(t *testing.T) {
	w := newLogWorld(t)
	w.write("error", lines(0, 10))
	w.act(`{"name": "error", "publish": 1}`)
	w.clock.Add(31 * 24 * time.Hour)
	w.report(t, labID, trove.ServiceHealthy, w.clock.Now())
	w.write("error", lines(10, 20))
	w.act(`{"name": "error", "publish": 1}`)
	if text := w.read(""); text != lines(10, 20) {
		t.Errorf("the text is %q", text)
	}
	w.write("error", lines(20, 30))
	w.act(`{"name": "error", "publish": 1}`)
	if text := w.read(""); text != lines(10, 30) {
		t.Errorf("the text is %q", text)
	}
}

func TestLogsWithoutAnObjectStore(t *testing.T) {
	w := newWorld(t, nil, func(c *api.Config) { c.Objects, c.Grants = nil, nil })
	w.addLab(t)
	lw := &logWorld{w, t}
	for _, path := range []string{"", "/error/contents"} {
		if status, _ := lw.ask("member", http.MethodGet, path, ""); status != http.StatusNotImplemented {
			t.Errorf("%q: %d", path, status)
		}
	}
}
