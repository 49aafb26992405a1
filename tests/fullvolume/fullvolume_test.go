package fullvolume_test

import (
	"context"
	"crypto/md5" // databases can compute it, and nothing depends on its strength
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/trove-dbaas/trove/cloud/local/volume"
	"github.com/trove-dbaas/trove/guestapi"
)

// products are those whose programs these tests need on this machine.
var products = []*product{mariaDB, postgreSQL}

// inCI are the ways that are tried without TROVE_FILLS.
var inCI = []string{"data", "undo", "wal"}

func TestServerComesBackFromAFullVolume(t *testing.T) {
	times, ways := 1, inCI
	if text := os.Getenv("TROVE_FILLS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("TROVE_FILLS is %q", text)
		}
		times, ways = n, nil
	}
	for _, p := range products {
		for _, way := range slices.Sorted(maps.Keys(p.fills)) {
			if ways != nil && !slices.Contains(ways, way) {
				continue
			}
			for n := range times {
				t.Run(fmt.Sprintf("%s/%s/%d", p.name, way, n+1), func(t *testing.T) { fillAndGrow(t, p, way) })
			}
		}
	}
}

func fillAndGrow(t *testing.T, p *product, way string) {
	w := newWorld(t, p)
	for range 20 { // what was there before must be there afterwards
		if err := w.commit(t.Context(), 16<<10); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	refusal := p.fills[way](ctx, w)
	cancel()
	if refusal == nil {
		t.Fatal("the server refused nothing: the volume is not full")
	}
	t.Logf("after %.1f s, %d rows: %v; %d KiB are free", time.Since(began).Seconds(), len(w.committed), refusal, w.free()>>10)
	// Whoever writes goes on for a while, and so does the server's own work.
	for until := time.Now().Add(5 * time.Second); time.Now().Before(until); time.Sleep(200 * time.Millisecond) {
		_ = w.commit(t.Context(), 256<<10)
	}
	t.Logf("full: the server is %q", w.agent.Service().Status)
	began = time.Now()
	if err := volume.Extend(w.image, w.layout.Data, large<<30, false); err != nil {
		t.Fatal(err)
	}
	w.long("op/grow", guestapi.CmdGrow, guestapi.GrowArgs{SizeGiB: large})
	w.until("the server to take rows again", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return w.commit(ctx, 16<<10) == nil
	})
	t.Logf("back %.1f s after the growth", time.Since(began).Seconds())
	w.until("the agent to call it up", func() bool { return w.agent.Service().Up })
	w.wantRows()
	p.check(t, w.db)
}

// payload is text that no compression makes small.
func payload(size int) (text, sum string) {
	raw := make([]byte, size/2)
	for n := range raw {
		raw[n] = byte(rand.Uint32())
	}
	text = hex.EncodeToString(raw)
	digest := md5.Sum([]byte(text))
	return text, hex.EncodeToString(digest[:])
}

// commit writes a row in a transaction of its own and notes what the server said.
func (w *world) commit(ctx context.Context, size int) error {
	w.last++
	id := w.last
	text, sum := payload(size)
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if _, err := w.db.ExecContext(ctx, w.p.insert, id, text, sum); err != nil {
		w.doubtful[id] = true
		return err
	}
	w.committed[id] = true
	return nil
}

// wantRows compares what the server has with what it said it had.
func (w *world) wantRows() {
	w.t.Helper()
	rows, err := w.db.QueryContext(w.t.Context(), w.p.all)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	there := map[int64]bool{}
	for rows.Next() {
		var id int64
		var good bool
		if err := rows.Scan(&id, &good); err != nil {
			w.t.Fatal(err)
		}
		if there[id] = true; !good {
			w.t.Errorf("row %d has another payload", id)
		}
		if !w.committed[id] && !w.doubtful[id] {
			w.t.Errorf("nobody wrote row %d", id)
		}
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	lost := 0
	for id := range w.committed {
		if !there[id] {
			lost++
		}
	}
	if lost > 0 {
		w.t.Errorf("%d of %d committed rows are lost", lost, len(w.committed))
	}
	w.t.Logf("%d rows that were committed are there", len(w.committed))
}

// fillRows commits rows until one is refused.
func fillRows(ctx context.Context, w *world) error {
	for ctx.Err() == nil {
		if err := w.commit(ctx, 256<<10); err != nil {
			return err
		}
	}
	return nil
}

// fillBeside lets something else take the space, as a log would that nobody bounds, while rows are committed.
func fillBeside(ctx context.Context, w *world) error {
	f, err := os.OpenFile(filepath.Join(w.layout.Data, "beside"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			return err
		}
	}
	return fillRows(ctx, w)
}
