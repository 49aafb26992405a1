package sealedkeys_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/keyfile"
	"github.com/trove-dbaas/trove/internal/sealedkeys"
	"github.com/trove-dbaas/trove/secrets"
	secretsfile "github.com/trove-dbaas/trove/secrets/file"
	"github.com/trove-dbaas/trove/secrets/keyring"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

// host is what hosts share, and one's own sealer.
type host struct {
	store  *sqlstore.Store
	master string
	sealer secrets.Sealer
}

func newHost(t *testing.T) *host {
	t.Helper()
	dir := t.TempDir()
	st, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(dir, "store.db"), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	h := &host{store: st, master: filepath.Join(dir, "master.key")}
	if h.sealer, err = secretsfile.Open(h.master); err != nil {
		t.Fatal(err)
	}
	return h
}

// open is another process.
func (h *host) open(t *testing.T) *sealedkeys.Keys {
	t.Helper()
	k, err := sealedkeys.Open(t.Context(), h.store, h.sealer, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func made(text string) func() ([]byte, error) {
	return func() ([]byte, error) { return []byte(text), nil }
}

// TestKeepers holds both keepers to what the port says.
func TestKeepers(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) func() keyfile.Keeper{
		"files": func(t *testing.T) func() keyfile.Keeper {
			dir := keyfile.Dir(t.TempDir())
			return func() keyfile.Keeper { return dir }
		},
		"store": func(t *testing.T) func() keyfile.Keeper {
			h := newHost(t)
			return func() keyfile.Keeper { return h.open(t) }
		},
	} {
		t.Run(name, func(t *testing.T) { testKeeper(t, open(t)) })
	}
}

func testKeeper(t *testing.T, open func() keyfile.Keeper) {
	k := open()
	if _, _, err := k.Load("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
	if _, err := k.Version("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the version of what is not there: %v", err)
	}
	if err := k.Replace(t.Context(), "a", func(b []byte) ([]byte, error) { return b, nil }); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("replace what is not there: %v", err)
	}
	// Processes that start at the same time have one key.
	var wg sync.WaitGroup
	got := make([]string, 8)
	for n := range got {
		each := open()
		wg.Go(func() {
			data, err := each.LoadOrMake(t.Context(), "a", made(fmt.Sprint("key ", n)))
			if err != nil {
				t.Error(err)
			}
			got[n] = string(data)
		})
	}
	wg.Wait()
	for _, g := range got {
		if g == "" || g != got[0] {
			t.Fatalf("the keys differ: %q", got)
		}
	}
	k = open()
	_, before, err := k.Load("a")
	if err != nil {
		t.Fatal(err)
	}
	broken := errors.New("no")
	if err := k.Replace(t.Context(), "a", func([]byte) ([]byte, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("a change that fails: %v", err)
	}
	if now, err := k.Version("a"); err != nil || now != before {
		t.Errorf("it changed something: %v, %v", now != before, err)
	}
	// Changes by several processes at once follow each other.
	for range 8 {
		each := open()
		wg.Go(func() {
			if err := each.Replace(t.Context(), "a", func(old []byte) ([]byte, error) { return append(old, '+'), nil }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	data, after, err := open().Load("a")
	if err != nil || string(data) != got[0]+"++++++++" || after == before {
		t.Errorf("after eight changes: %q, %v", data, err)
	}
}

func TestAnotherProcessSeesAChange(t *testing.T) {
	h := newHost(t)
	a, b := h.open(t), h.open(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	if _, err := a.LoadOrMake(t.Context(), "a", made("1")); err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(20 * time.Second)
	for {
		if data, _, err := b.Load("a"); err == nil && string(data) == "1" {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it does not")
		}
		if err := clock.Sleep(t.Context(), 20*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestTheStoreDoesNotShowTheKeys looks at the rows, and opens them with another master key.
func TestTheStoreDoesNotShowTheKeys(t *testing.T) {
	h := newHost(t)
	if _, err := h.open(t).LoadOrMake(t.Context(), "a", made("the secret")); err != nil {
		t.Fatal(err)
	}
	rows, err := h.store.KeyMaterial(t.Context())
	if err != nil || len(rows) != 1 || !strings.HasPrefix(rows["a"], keyring.Marker) || strings.Contains(rows["a"], "secret") {
		t.Errorf("the rows are %v, %v", rows, err)
	}
	// A row that was moved to another name does not open, nor do any under another key.
	if _, err := h.store.SwapKeyMaterial(t.Context(), "b", "", rows["a"]); err != nil {
		t.Fatal(err)
	}
	if _, err := sealedkeys.Open(t.Context(), h.store, h.sealer, slog.New(slog.DiscardHandler)); !trove.IsPermanent(err) {
		t.Errorf("a row that was moved: %v", err)
	}
	other, err := secretsfile.Open(filepath.Join(t.TempDir(), "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sealedkeys.Open(t.Context(), h.store, other, slog.New(slog.DiscardHandler)); !trove.IsPermanent(err) {
		t.Errorf("with another master key: %v", err)
	}
}

// TestTheMasterKeyIsReplacedUnderTheKeys has the rows sealed anew while a process holds them.
func TestTheMasterKeyIsReplacedUnderTheKeys(t *testing.T) {
	h := newHost(t)
	k := h.open(t)
	if _, err := k.LoadOrMake(t.Context(), "a", made("1")); err != nil {
		t.Fatal(err)
	}
	if _, err := secretsfile.Rotate(h.master, time.Now()); err != nil {
		t.Fatal(err)
	}
	sealer := h.sealer.(*secretsfile.Sealer)
	n, err := h.store.RewriteSealed(t.Context(), func(_ sqlstore.SealedColumn, _, text string) (string, bool) { return sealer.Rewrap(text) })
	if err != nil || n != 1 {
		t.Fatalf("%d were sealed anew, %v", n, err)
	}
	if err := k.Replace(t.Context(), "a", func(old []byte) ([]byte, error) { return append(old, '2'), nil }); err != nil {
		t.Error(err)
	}
	if data, _, err := h.open(t).Load("a"); string(data) != "12" || err != nil {
		t.Errorf("the key is %q, %v", data, err)
	}
}

func TestFilesOfAnEarlierReleaseAreTakenOver(t *testing.T) {
	h := newHost(t)
	dir := t.TempDir()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "a"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		file       string // "": none
		wins, took bool
		keeps      string
	}{
		{"", false, false, ""},
		{"first", false, true, "first"},
		{"", false, false, "first"},
		{"old copy", false, false, "first"},
		{"the operator's", true, true, "the operator's"},
	} {
		if step.file != "" {
			write(step.file)
		}
		k := h.open(t)
		took, err := k.TakeOver(t.Context(), dir, "a", step.wins)
		data, _, _ := k.Load("a")
		if took != step.took || err != nil || string(data) != step.keeps {
			t.Errorf("%+v: took %v, keeps %q, %v", step, took, data, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "a")); !os.IsNotExist(err) {
			t.Errorf("%+v: the file is still there: %v", step, err)
		}
	}
	file := filepath.Join(dir, "b")
	if err := errors.Join(os.WriteFile(file, []byte("x"), 0o644), os.Chmod(file, 0o644)); err != nil { // whatever our umask is
		t.Fatal(err)
	}
	if _, err := h.open(t).TakeOver(t.Context(), dir, "b", false); err == nil {
		t.Error("a file that everybody can read was taken over")
	}
}
