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

// signalAndWait sends the signal and waits until the process behind the descriptor has ended, for at most limit.
func signalAndWait(ctx context.Context, pidfd int, sig unix.Signal, limit time.Duration) error {
	if limit <= 0 {
		return errStillRunning
	}
	if err := unix.PidfdSendSignal(pidfd, sig, nil, 0); err != nil {
		if errors.Is(err, unix.ESRCH) {
			return nil
		}
		return err
	}
	const slice = 50 * time.Millisecond // how often the context is looked at
	for waited := time.Duration(0); waited < limit; waited += slice {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(min(slice, limit-waited)/time.Millisecond))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if n > 0 {
			return nil
		}
	}
	return errStillRunning
}

func unique(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
