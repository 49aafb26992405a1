package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/guestapi"
)

// TailLog is the guest's: the position is one in the fake log's text.
func (f *fakeLogs) TailLog(_ context.Context, instance string, args guestapi.TailLogArgs) (guestapi.LogTail, error) {
	select {
	case f.tailed <- struct{}{}:
	default:
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	l, err := f.find(instance, args.Name)
	if err != nil {
		return guestapi.LogTail{}, err
	}
	text := l.text[:strings.LastIndexByte(l.text, '\n')+1]
	if text == "" {
		return guestapi.LogTail{Restarted: args.File != ""}, nil
	}
	t := guestapi.LogTail{File: "1-" + header(l.text)[:16], To: int64(len(text))}
	if args.File == t.File && int(args.From) <= len(text) {
		t.Data = []byte(text[args.From:])
		return t, nil
	}
	t.Restarted = args.File != ""
	all := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
	t.Data = []byte(strings.Join(all[max(0, len(all)-args.Lines):], "") + "\n")
	return t, nil
}

func (w *logWorld) tail(query string) wire.LogTail {
	w.t.Helper()
	status, text := w.ask("member", http.MethodGet, "/error/tail"+query, "")
	if status != http.StatusOK {
		w.t.Fatalf("tail%s: %d %s", query, status, text)
	}
	var out wire.LogTailBody
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		w.t.Fatal(err)
	}
	return out.Tail
}

func (w *logWorld) wantTail(got wire.LogTail, restarted bool, lines ...string) {
	w.t.Helper()
	if diff := cmp.Diff(append([]string{}, lines...), got.Lines); diff != "" || got.Restarted != restarted {
		w.t.Errorf("restarted %v: -want +got\n%s", got.Restarted, diff)
	}
}

func TestTailGoesOnFromItsCursor(t *testing.T) {
	w := newLogWorld(t)
	at := w.tail("")
	w.wantTail(at, false)
	w.write("error", "one\ntwo\r\nbinary \x00\xff\x1b[31m ü\tend\nnot who")
	at = w.tail("?since=" + url.QueryEscape(at.Cursor))
	w.wantTail(at, false, "one", "two", `binary \x00\xff\x1b[31m ü`+"\tend")
	w.wantTail(w.tail("?lines=1"), false, `binary \x00\xff\x1b[31m ü`+"\tend")
	w.wantTail(w.tail("?since="+url.QueryEscape(at.Cursor)), false)
	w.write("error", "le\n")
	at = w.tail("?since=" + url.QueryEscape(at.Cursor))
	w.wantTail(at, false, "not whole")
	w.guests.of[labID][0].text = "anew\n"
	w.wantTail(w.tail("?since="+url.QueryEscape(at.Cursor)), true, "anew")
}

func TestTailWaitsForLines(t *testing.T) {
	w := newLogWorld(t)
	w.write("error", "one\n")
	at := w.tail("")
	done := make(chan wire.LogTail, 1)
	go func() {
		status, text := w.ask("member", http.MethodGet, "/error/tail?wait=30s&since="+url.QueryEscape(at.Cursor), "")
		var out wire.LogTailBody
		if err := json.Unmarshal([]byte(text), &out); status != http.StatusOK || err != nil {
			t.Errorf("%d %s", status, text)
		}
		done <- out.Tail
	}()
	<-w.guests.tailed // the first call's
	select {
	case <-w.guests.tailed:
	case <-time.After(time.Minute):
		t.Fatal("the guest was not asked")
	}
	if status, text := w.ask("member", http.MethodGet, "/error/tail", ""); status != http.StatusConflict {
		t.Errorf("two calls follow one instance at a time: %d %s", status, text)
	}
	w.write("error", "two\n")
	select {
	case got := <-done:
		w.wantTail(got, false, "two")
	case <-time.After(time.Minute):
		t.Fatal("the line did not come")
	}
	w.wantTail(w.tail("?lines=1"), false, "two") // the place is free again
}

func TestTailRefusesWhatIsNone(t *testing.T) {
	w := newLogWorld(t)
	for _, query := range []string{
		"?lines=0", "?lines=1001", "?lines=x", "?wait=soon", "?wait=-1s", "?since=x", "?since=5", "?since=-1.a", "?since=1.%0a", "?since=1." + strings.Repeat("x", 65),
	} {
		if status, text := w.ask("member", http.MethodGet, "/error/tail"+query, ""); status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", query, status, text)
		}
	}
	if status, _ := w.ask("member", http.MethodGet, "/nonsense/tail", ""); status != http.StatusNotFound {
		t.Errorf("a log that is not there: %d", status)
	}
	if status, _ := w.ask("other", http.MethodGet, "/error/tail", ""); status != http.StatusNotFound {
		t.Errorf("somebody else's: %d", status)
	}
}
