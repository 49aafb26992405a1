package gateway_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/backupstore/file"
	"github.com/trove-dbaas/trove/gateway"
	"github.com/trove-dbaas/trove/gateway/grant"
	"github.com/trove-dbaas/trove/guestagent/objects"
	"github.com/trove-dbaas/trove/internal/clock"
)

func TestGuestWritesAndReads(t *testing.T) {
	w := newWorld(t, gateway.Limits{})
	put, get := w.grant(w.good, http.MethodPut, nil), w.grant(w.good, http.MethodGet, nil)
	client := w.client(w.good)
	text := strings.Repeat("a line of a log\n", 10_000)
	stored, err := client.PutLines(t.Context(), put, put.Prefix+"00001", strings.NewReader(text), 10_000)
	if err != nil {
		t.Fatal(err)
	}
	if stored.Size != int64(len(text)) || stored.Name != put.Prefix+"00001" {
		t.Errorf("stored %+v", stored)
	}
	o, err := w.store.Stat(t.Context(), w.good.container(), put.Prefix+"00001")
	if err != nil || o.Meta[gateway.MetaLines] != "10000" {
		t.Errorf("object %+v, %v", o, err)
	}
	// What cannot be read twice is streamed, with its hash at the end.
	if _, err := client.Put(t.Context(), put, put.Prefix+"00002", io.MultiReader(strings.NewReader(text), strings.NewReader("end"))); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"00001": text, "00002": text + "end"} {
		body, err := client.Get(t.Context(), get, get.Prefix+name)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(body)
		if err := errors.Join(err, body.Close()); err != nil || string(data) != want {
			t.Errorf("%s: %d bytes, %v; want %d", name, len(data), err, len(want))
		}
	}
	if _, err := client.Get(t.Context(), get, get.Prefix+"none"); !trove.IsNotFound(err) {
		t.Errorf("get what is not there: %v", err)
	}
	if got := w.log.String(); strings.Contains(got, put.Token) || strings.Contains(got, get.Token) {
		t.Error("a token is in the log")
	}
}

// TestAGuestWhoseClockIsBehindWritesAndReads: its machine was suspended and goes on with the time of before; from the bus it knows that a later one has come.
func TestAGuestWhoseClockIsBehindWritesAndReads(t *testing.T) {
	w := newWorld(t, gateway.Limits{})
	put := w.grant(w.good, http.MethodPut, nil)
	client := objects.New(w.good, clock.NewManual(time.Now().Add(-72*time.Hour)), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := client.Put(ctx, put, put.Prefix+"00001", strings.NewReader("a line\n")); err != nil {
		t.Error(err)
	}
}

func TestWrittenOnce(t *testing.T) {
	w := newWorld(t, gateway.Limits{})
	g := w.grant(w.good, http.MethodPut, nil)
	client, name := w.client(w.good), g.Prefix+"00001"
	for range 3 { // an answer may be lost
		if _, err := client.PutBytes(t.Context(), g, name, []byte("first")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.PutBytes(t.Context(), g, name, []byte("other")); trove.KindOf(err) != trove.KindConflict {
		t.Errorf("another object in its place: %v, want a conflict", err)
	}
	if _, err := client.Put(t.Context(), g, name, io.MultiReader(strings.NewReader("other"))); trove.KindOf(err) != trove.KindConflict {
		t.Errorf("another object in its place, streamed: %v, want a conflict", err)
	}
	if diff := cmp.Diff(1, len(w.inventory())); diff != "" {
		t.Error(diff)
	}
	if w.refused("sealed") != 2 {
		t.Errorf("refused as sealed: %v", w.refused("sealed"))
	}
}

// TestWrittenOnceAtOnce lets two requests for one name pass every look before either has written.
func TestWrittenOnceAtOnce(t *testing.T) {
	w := newWorld(t, gateway.Limits{Grace: patience})
	g := w.grant(w.good, http.MethodPut, nil)
	var conns []*tls.Conn
	bodies := []string{"first", "other"}
	for _, body := range bodies {
		conn := w.dial()
		r := raw{method: "PUT", path: "/v1/objects/" + g.Prefix + "1", token: g.Token, signer: w.good, body: body, headers: []string{"Expect: 100-continue"}}
		if _, err := conn.Write([]byte(w.head(conn, r))); err != nil {
			t.Fatal(err)
		}
		if status := answered(t, conn, "PUT"); status != http.StatusContinue {
			t.Fatalf("status %d, want 100", status)
		}
		conns = append(conns, conn)
	}
	var got []int
	for i, conn := range conns {
		if _, err := conn.Write([]byte(bodies[i])); err != nil {
			t.Fatal(err)
		}
		got = append(got, answered(t, conn, "PUT"))
	}
	if diff := cmp.Diff([]int{http.StatusCreated, http.StatusConflict}, got); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
}

// TestReaderNoticesDamage changes a byte on the disk.
func TestReaderNoticesDamage(t *testing.T) {
	w := newWorld(t, gateway.Limits{})
	put, get := w.grant(w.good, http.MethodPut, nil), w.grant(w.good, http.MethodGet, nil)
	client := w.client(w.good)
	if _, err := client.PutBytes(t.Context(), put, put.Prefix+"1", []byte("a precious text")); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(w.dir, "*", "*", "*", "*", "*", "1.o"))
	if err != nil || len(found) != 1 {
		t.Fatalf("files %v, %v", found, err)
	}
	f, err := os.OpenFile(found[0], os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("X"), 2)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	body, err := client.Get(t.Context(), get, get.Prefix+"1")
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(body)
	if !errors.Is(err, objects.ErrHash) {
		t.Errorf("error %v, want ErrHash", err)
	}
	_ = body.Close()
}

func TestBudgetHoldsForAllObjectsAndOverARestart(t *testing.T) {
	w := newWorld(t, gateway.Limits{})
	g := w.grant(w.good, http.MethodPut, func(s *grant.Spec) { s.MaxBytes = 1000 })
	client := w.client(w.good)
	put := func(name string, n int) error {
		_, err := client.PutBytes(t.Context(), g, g.Prefix+name, bytes.Repeat([]byte(name), n))
		return err
	}
	streamed := func(name string, n int) error {
		_, err := client.Put(t.Context(), g, g.Prefix+name, io.MultiReader(bytes.NewReader(bytes.Repeat([]byte(name), n))))
		return err
	}
	if err := put("1", 600); err != nil {
		t.Fatal(err)
	}
	if err := put("2", 401); trove.KindOf(err) != trove.KindOverLimit {
		t.Errorf("beyond the budget: %v", err)
	}
	if err := streamed("3", 401); trove.KindOf(err) != trove.KindOverLimit {
		t.Errorf("beyond the budget, streamed: %v", err)
	}
	if err := w.gateway.Close(); err != nil {
		t.Fatal(err)
	}
	w.config.Listen = strings.TrimPrefix(w.gateway.URLs()[0], "https://")
	w.start()
	if err := streamed("4", 401); trove.KindOf(err) != trove.KindOverLimit {
		t.Errorf("beyond the budget after a restart: %v", err)
	}
	if err := put("1", 600); err != nil {
		t.Errorf("the same object again: %v", err)
	}
	if err := put("5", 400); err != nil {
		t.Errorf("what is left of the budget: %v", err)
	}
	if got := len(w.inventory()); got != 2 {
		t.Errorf("%d objects, want 2", got)
	}
	// A new grant for the same prefix brings no new budget.
	g = w.grant(w.good, http.MethodPut, func(s *grant.Spec) { s.MaxBytes = 1000 })
	if err := put("6", 1); trove.KindOf(err) != trove.KindOverLimit {
		t.Errorf("with another grant: %v", err)
	}
}

func TestFullStore(t *testing.T) {
	w := newWorld(t, gateway.Limits{})
	full, err := file.Open(file.Config{Dir: t.TempDir(), MinFree: math.MaxInt64 / 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = full.Close() })
	w.config.Store, w.config.Metrics = full, nil
	w.start()
	g := w.grant(w.good, http.MethodPut, nil)
	if status := w.send(raw{method: "PUT", path: "/v1/objects/" + g.Prefix + "1", token: g.Token, signer: w.good, body: "x"}); status != http.StatusInsufficientStorage {
		t.Errorf("status %d, want 507", status)
	}
}

// TestFilesOfTheDeployment reads what others laid down, as guests read new agents.
func TestFilesOfTheDeployment(t *testing.T) {
	w := newWorld(t, gateway.Limits{})
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "1.2.3"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"1.2.3/trove-guestagent": "a program", "secret": "not for guests"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../secret", filepath.Join(dir, "1.2.3", "link")); err != nil {
		t.Fatal(err)
	}
	w.config.Own, w.config.Metrics = file.OpenDirectories(map[string]string{"agents": dir}), nil
	w.start()
	own := func(s *grant.Spec) { s.Container, s.Prefix = backupstore.Container{Name: "system"}, "agents/1.2.3/" }
	g := w.grant(w.good, http.MethodGet, own)
	client := w.client(w.good)
	body, err := client.Get(t.Context(), g, "agents/1.2.3/trove-guestagent")
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(body)
	if err := errors.Join(err, body.Close()); err != nil || string(data) != "a program" {
		t.Errorf("read %q, %v", data, err)
	}
	if _, err := client.Get(t.Context(), g, "agents/1.2.3/link"); err == nil {
		t.Error("a link was followed")
	}
	if _, err := client.Get(t.Context(), g, "agents/secret"); trove.KindOf(err) != trove.KindForbidden {
		t.Errorf("outside of the prefix: %v", err)
	}
	g = w.grant(w.good, http.MethodPut, func(s *grant.Spec) { own(s); s.MaxBytes = 100 })
	if _, err := client.PutBytes(t.Context(), g, "agents/1.2.3/new", []byte("x")); err == nil {
		t.Error("a guest wrote a program")
	}
}
