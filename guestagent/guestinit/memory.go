package guestinit

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// letGo gives back what a process that sleeps for days does not need: free heap, and the mapping of the program itself, of which the start touched
// nearly everything. The kernel maps again what is used again, from the same page cache that the agent, the same program, runs from.
func (r *reaper) letGo(ctx context.Context) {
	debug.FreeOSMemory()
	if err := unmapProgram(); err != nil {
		r.log.WarnContext(ctx, "memory was not given back", "err", err)
	}
}

// mapping is one of a process's mappings.
type mapping struct {
	from, to uintptr
	program  bool // of the program's file, and not writable
}

// unmapProgram drops the program's pages from this process: those of mappings that were never written to, so that what is dropped is read from the
// file again. (In a position-independent program the linker's relocations are written before a mapping becomes read-only.)
func unmapProgram() error {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("find the program: %w", err)
	}
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("find the program in memory: %w", err)
	}
	defer maps.Close()
	var m mapping
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		switch {
		case len(f) >= 5 && !strings.HasSuffix(f[0], ":"):
			if m, err = parseMapping(f, self); err != nil {
				return err
			}
		case len(f) >= 2 && f[0] == "Anonymous:" && f[1] == "0" && m.program:
			if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED); errno != 0 {
				return fmt.Errorf("drop the program's pages: %w", errno)
			}
		}
	}
	return lines.Err()
}

func parseMapping(f []string, self string) (mapping, error) {
	var m mapping
	if _, err := fmt.Sscanf(f[0], "%x-%x", &m.from, &m.to); err != nil {
		return m, fmt.Errorf("read the map of memory: %w", err)
	}
	m.program = len(f) >= 6 && f[5] == self && !strings.Contains(f[1], "w")
	return m, nil
}
