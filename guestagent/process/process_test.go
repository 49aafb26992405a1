package process_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/guestagent/process"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

func TestReferenceSurvivesAFile(t *testing.T) {
	ref, err := process.Find(sleeper(t).Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	ref.Began = time.Date(2026, 3, 1, 2, 3, 4, 5000, time.UTC)
	path := filepath.Join(t.TempDir(), "pid")
	if err := ref.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	back, err := process.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(ref, back); d != "" {
		t.Error("(-want +got):\n" + d)
	}
	if !back.Alive() {
		t.Error("it is not alive")
	}
	back.Start++
	if back.Alive() {
		t.Error("a process that started at another time is the same")
	}
	if _, err := process.Open(back); !errors.Is(err, process.ErrGone) {
		t.Errorf("it was opened: %v", err)
	}
}

func TestNameCannotBreakTheStatus(t *testing.T) {
	odd := filepath.Join(t.TempDir(), "a) Z 1 (")
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(odd, data, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(odd, "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if ref, err := process.Find(cmd.Process.Pid); err != nil || ref.Start == 0 {
		t.Errorf("found %+v, %v", ref, err)
	}
}

func TestWatchSeesTheEnd(t *testing.T) {
	cmd := sleeper(t)
	ref, err := process.Find(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	h, err := process.Open(ref)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	ended := make(chan bool, 1)
	go func() { ended <- h.Watch() }()
	if err := h.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if !<-ended {
		t.Error("the watch saw no end")
	}
	if ref.Alive() {
		t.Error("a zombie is alive")
	}
	_ = cmd.Wait()
	if err := h.Signal(unix.SIGTERM); !errors.Is(err, process.ErrGone) {
		t.Errorf("signal to a process that is gone: %v", err)
	}
	if _, err := process.Find(ref.PID); !errors.Is(err, process.ErrGone) {
		t.Errorf("found a process that is gone: %v", err)
	}
}

func TestCloseEndsTheWatch(t *testing.T) {
	cmd := sleeper(t)
	ref, err := process.Find(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	h, err := process.Open(ref)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan bool, 1)
	go func() { ended <- h.Watch() }()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if <-ended {
		t.Error("the watch saw an end of a process that lives")
	}
	if !ref.Alive() {
		t.Error("the process ended with the watch")
	}
}

func TestBadPIDFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	if _, err := process.ReadFile(path); !errors.Is(err, process.ErrGone) {
		t.Errorf("no file: %v", err)
	}
	for _, text := range []string{"", "x", "12", "1 2 3", "0 1 1", "-5 1 1", "12 x 0"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if ref, err := process.ReadFile(path); err == nil || errors.Is(err, process.ErrGone) {
			t.Errorf("%q was read as %+v, %v", text, ref, err)
		}
	}
}
