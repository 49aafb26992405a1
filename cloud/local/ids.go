package local

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/trove-dbaas/trove/cloud/local/mounts"
)

// The host's user and group ids that instances use: a part that no distribution and no container engine assigns by default. See
// systemd's table of user ids, where it is marked as unused.
const (
	firstID = 0x70000000
	ranges  = 4094 // up to 0x7ffdffff
)

// idsDir has one link per range in use, named by its number and pointing at the run directory of the instance that uses it. All deployments on the
// machine share it. Ids on the disk are those inside the instance, so a range is needed only while there are mounts and processes: when the machine was
// restarted all are free.
var idsDir = filepath.Join(runRoot, "trove-ids")

// claimIDs returns the host's id of the instance's root, choosing a range if it has none. It may be repeated.
func claimIDs(owner string) (uint32, error) {
	if err := os.MkdirAll(idsDir, 0o700); err != nil {
		return 0, fmt.Errorf("choose user ids: %w", err)
	}
	if n, ok, err := findIDs(owner); err != nil || ok {
		return firstID + uint32(n)*mounts.RangeSize, err
	}
	others, err := assignedElsewhere("/etc/subuid", "/etc/subgid")
	if err != nil {
		return 0, err
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(owner))
	start := int(h.Sum32() % ranges)
	for i := range ranges {
		n := (start + i) % ranges
		if slices.ContainsFunc(others, func(o span) bool { return o.overlaps(n) }) {
			continue
		}
		err := os.Symlink(owner, filepath.Join(idsDir, strconv.Itoa(n)))
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("choose user ids: %w", err)
		}
		return firstID + uint32(n)*mounts.RangeSize, nil
	}
	return 0, fmt.Errorf("choose user ids: all %d ranges are in use, see %s", ranges, idsDir)
}

// releaseIDs gives the instance's range back; without one it does nothing.
func releaseIDs(owner string) error {
	n, ok, err := findIDs(owner)
	if err != nil || !ok {
		return err
	}
	if err := os.Remove(filepath.Join(idsDir, strconv.Itoa(n))); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("give user ids back: %w", err)
	}
	return nil
}

func findIDs(owner string) (int, bool, error) {
	entries, err := os.ReadDir(idsDir)
	if errors.Is(err, os.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("look for user ids: %w", err)
	}
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(idsDir, e.Name()))
		if err != nil || target != owner {
			continue // removed meanwhile, or another's
		}
		if n, err := strconv.Atoi(e.Name()); err == nil && n >= 0 && n < ranges {
			return n, true, nil
		}
	}
	return 0, false, nil
}

// span is a range of ids that the system's administrator gave to somebody.
type span struct{ first, length uint64 }

func (s span) overlaps(n int) bool {
	first := uint64(firstID) + uint64(n)*mounts.RangeSize
	return s.first < first+mounts.RangeSize && first < s.first+s.length
}

// assignedElsewhere reads files of the form of subuid(5). A file that is missing assigns nothing.
func assignedElsewhere(files ...string) ([]span, error) {
	var all []span
	for _, path := range files {
		data, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("choose user ids: %w", err)
		}
		for line := range strings.Lines(string(data)) {
			fields := strings.Split(strings.TrimSpace(line), ":")
			if len(fields) != 3 {
				continue
			}
			first, err1 := strconv.ParseUint(fields[1], 10, 32)
			length, err2 := strconv.ParseUint(fields[2], 10, 33)
			if err1 == nil && err2 == nil {
				all = append(all, span{first, length})
			}
		}
	}
	return all, nil
}

func sortedUnique(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
