package guestagent_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/guestapi"
)

// fill writes until the file system has no block left.
func fill(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// TestCommandsOnAFullVolume: an engine that has written its volume full can still be told what to do, many times, also by a new agent; and the reserve comes back with
// the space.
func TestCommandsOnAFullVolume(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: a mount")
	}
	g := newGuest(t)
	if err := syscall.Mount("tmpfs", g.layout.Data, "tmpfs", 0, "size=64m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.stop()
		if ref, err := g.engineRef(); err == nil && ref.Alive() {
			_ = unix.Kill(-ref.PID, unix.SIGKILL)
		}
		if err := syscall.Unmount(g.layout.Data, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := os.MkdirAll(g.layout.State, 0o700); err != nil {
		t.Fatal(err)
	}
	g.prepared()
	held := func() (blocks int64) {
		for n := range 16 {
			var st syscall.Stat_t
			if syscall.Stat(filepath.Join(g.layout.State, "ballast", fmt.Sprint(n)), &st) == nil {
				blocks += st.Blocks * 512
			}
		}
		return blocks
	}
	g.until("the reserve to be taken", func() bool { return held() == 4<<20 })
	g.until("the end of prepare to be noted as known, which takes space for a moment", func() bool {
		data, err := os.ReadFile(filepath.Join(g.layout.State, "journal", "op-op%2Fprepare.json"))
		return err == nil && strings.Contains(string(data), `"known":true`)
	})
	filler := fill(t, g.layout.Data)
	if err := os.WriteFile(filepath.Join(g.layout.State, "more"), []byte("x"), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the volume is not full: %v", err)
	}
	for n := range 5 {
		id := fmt.Sprintf("op/restart-%d", n)
		if n == 3 {
			g.stop()
			g.start()
		}
		if end := g.long(guestapi.CmdRestart, id, nil); end.State != guestapi.StateDone {
			t.Fatalf("restart on a full volume ended with %+v", end)
		}
		fill(t, g.layout.Data) // the engine takes what it can get
	}
	if end := g.long(guestapi.CmdStop, "op/stop", nil); end.State != guestapi.StateDone {
		t.Fatalf("stop on a full volume ended with %+v", end)
	}
	if held() == 4<<20 {
		t.Error("the reserve was not used: this test shows nothing")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	g.until("the reserve to be taken again", func() bool { return held() == 4<<20 })
}
