package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Processes returns the ids of all processes of the sandbox whose first process this is, wherever their control group is: those of its namespace for process ids.
func (p Process) Processes() ([]int, error) {
	namespace := func(pid int) string {
		link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
		if err != nil {
			return ""
		}
		return link
	}
	own := namespace(p.PID)
	if own == "" || own == namespace(os.Getpid()) {
		return nil, ErrNotRunning
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list the processes: %w", err)
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && namespace(pid) == own {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// alive reports whether the process with this number is the one that started then, and not a zombie.
func alive(pid int, started uint64) bool {
	state, at, err := stat(pid)
	return err == nil && at == started && state != 'Z' && state != 'X'
}

// stat reads a process's state letter and when it started.
func stat(pid int) (state byte, started uint64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	// The second field is the program's name in brackets and may contain anything.
	text := string(data)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	const startField = 19 // the 22nd field, counted from the third
	if len(fields) <= startField {
		return 0, 0, fmt.Errorf("process %d: its stat line is too short", pid)
	}
	started, err = strconv.ParseUint(fields[startField], 10, 64)
	return fields[0][0], started, err
}

// hostBoot is a short name for this run of the host.
var hostBoot = sync.OnceValue(func() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || len(data) < 8 {
		return "boot"
	}
	return string(data[:8])
})

var errStillRunning = errors.New("the process still runs")

// askToEnd sends SIGTERM to the first process of a sandbox and waits until it has ended, for at most grace. The kernel drops signals that a first
// process has no handler for, as one that was just started does not: the signal is repeated every second.
func askToEnd(ctx context.Context, pidfd, pid int, grace time.Duration) error {
	const again = time.Second
	for waited := time.Duration(0); waited < grace; {
		slice := min(again, grace-waited)
		if handles(pid, unix.SIGTERM) {
			if err := send(pidfd, unix.SIGTERM); err != nil {
				return err
			}
		} else {
			slice = min(5*time.Millisecond, slice)
		}
		if ended, err := await(ctx, pidfd, slice); err != nil || ended {
			return err
		}
		waited += slice
	}
	return errStillRunning
}

// kill ends the first process of a sandbox, and with it all others.
func kill(ctx context.Context, pidfd int) error {
	if err := send(pidfd, unix.SIGKILL); err != nil {
		return err
	}
	ended, err := await(ctx, pidfd, startTimeout)
	if err == nil && !ended {
		err = errStillRunning
	}
	return err
}

func send(pidfd int, sig unix.Signal) error {
	if err := unix.PidfdSendSignal(pidfd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// await waits until the process behind the descriptor has ended, for at most limit.
func await(ctx context.Context, pidfd int, limit time.Duration) (ended bool, err error) {
	const look = 50 * time.Millisecond // how often the context is looked at
	for waited := time.Duration(0); waited < limit; waited += look {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(min(look, limit-waited)/time.Millisecond))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return false, err
		}
		if n > 0 {
			return true, nil
		}
	}
	return false, nil
}

// handles reports whether a process has a handler for the signal.
func handles(pid int, sig unix.Signal) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return true // it has ended
	}
	_, rest, _ := strings.Cut(string(data), "\nSigCgt:")
	line, _, _ := strings.Cut(rest, "\n")
	mask, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	return err != nil || mask&(1<<(uint(sig)-1)) != 0
}

func unique(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
