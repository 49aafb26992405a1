package machine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/trove-dbaas/trove/internal/machinedata"
)

// disks returns the names of the machine's disks, in order, without those that are made of other things.
func (c Config) disks() ([]string, error) {
	entries, err := os.ReadDir(c.at("/sys/block"))
	if err != nil {
		return nil, fmt.Errorf("look for disks: %w", err)
	}
	var all []string
	for _, e := range entries {
		name := e.Name()
		if !slices.ContainsFunc([]string{"loop", "ram", "zram", "dm-", "md", "fd"}, func(p string) bool { return strings.HasPrefix(name, p) }) {
			all = append(all, name)
		}
	}
	return all, nil
}

// serial returns a disk's serial number: of virtio and NVMe as text, of SCSI from its page of vital product data.
func (c Config) serial(disk string) string {
	for _, file := range []string{"serial", "device/serial"} {
		if data, err := os.ReadFile(c.at("/sys/block", disk, file)); err == nil {
			return strings.TrimSpace(string(data))
		}
	}
	const header = 4
	if data, err := os.ReadFile(c.at("/sys/block", disk, "device/vpd_pg80")); err == nil && len(data) > header {
		return strings.Trim(string(data[header:]), " \x00")
	}
	return ""
}

// findDisk returns the name of the disk of a volume, "" while there is none.
func (c Config) findDisk(volume string) (string, error) {
	short := machinedata.Serial(volume)
	all, err := c.disks()
	if err != nil {
		return "", err
	}
	var found []string
	for _, d := range all {
		// The bus decides how much of the id a serial number holds.
		if s := c.serial(d); len(s) >= len(short) && strings.HasPrefix(volume, s) {
			found = append(found, d)
		}
	}
	switch {
	case len(found) > 1:
		return "", fmt.Errorf("the disks %s have the same serial number %s", strings.Join(found, " and "), short)
	case len(found) == 0 || !exists(c.at("/dev", found[0])): // the kernel makes the node a moment later
		return "", nil
	}
	return found[0], nil
}

// waitDisk waits for the disk of a volume and returns its name.
func (m *machine) waitDisk(ctx context.Context, what, volume string) (disk string, err error) {
	err = m.until(ctx, m.DiskWait, what+", a disk with the serial number "+machinedata.Serial(volume), func() (bool, error) {
		disk, err = m.findDisk(volume)
		return disk != "", err
	})
	return disk, err
}

// waitSize waits until a disk has a size. A SCSI disk whose volume did not answer when it was found has none: nothing can be read of it, which is not the same as
// nothing being on it.
func (m *machine) waitSize(ctx context.Context, disk string) error {
	if size, err := m.diskSize(disk); err != nil || size > 0 {
		return err
	}
	if err := m.rescan(disk); err != nil {
		return err
	}
	return m.until(ctx, m.DiskWait, "the size of the disk /dev/"+disk, func() (bool, error) {
		size, err := m.diskSize(disk)
		return size > 0, err
	})
}

// rescan has the kernel ask a disk for its size. A SCSI disk tells it when it is asked, a virtio disk by itself.
func (c Config) rescan(disk string) error {
	file := c.at("/sys/class/block", disk, "device/rescan")
	if !exists(file) {
		return nil
	}
	if err := os.WriteFile(file, []byte("1\n"), 0o200); err != nil {
		return fmt.Errorf("ask %s for its size: %w", disk, err)
	}
	return nil
}

// partitions returns the names of a disk's partitions in the order of their numbers.
func (c Config) partitions(disk string) ([]string, error) {
	files, err := filepath.Glob(c.at("/sys/block", disk, disk+"*", "partition"))
	if err != nil {
		return nil, fmt.Errorf("look for partitions of %s: %w", disk, err)
	}
	numbers := map[string]int{}
	var all []string
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("look for partitions of %s: %w", disk, err)
		}
		name := filepath.Base(filepath.Dir(f))
		if numbers[name], err = strconv.Atoi(strings.TrimSpace(string(data))); err != nil {
			return nil, fmt.Errorf("look for partitions of %s: %w", disk, err)
		}
		all = append(all, name)
	}
	slices.SortFunc(all, func(a, b string) int { return numbers[a] - numbers[b] })
	return all, nil
}

// sectorSize is the unit of sizes in /sys, whatever the disk's own is.
const sectorSize = 512

func (c Config) diskSize(disk string) (int64, error) {
	data, err := os.ReadFile(c.at("/sys/class/block", disk, "size"))
	if err != nil {
		return 0, fmt.Errorf("ask for the size of %s: %w", disk, err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("ask for the size of %s: %w", disk, err)
	}
	return n * sectorSize, nil
}
