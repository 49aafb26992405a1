package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/internal/atomicfile"
	"github.com/trove-dbaas/trove/internal/imagelayout"
)

const volumeFlags = unix.MS_NODEV | unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NOATIME

// openData mounts the data volume. A new one is formatted and gets the image's initialised database, if it has one.
func (m *machine) openData(ctx context.Context) error {
	disk, err := m.waitDisk(ctx, "the data volume", m.data.DataVolume)
	if err != nil {
		return fmt.Errorf("open the data volume: %w", err)
	}
	device := "/dev/" + disk
	if err := m.waitSize(ctx, disk); err != nil {
		return fmt.Errorf("open the data volume: %w", err)
	}
	kind, fresh, err := m.fileSystem(ctx, disk)
	if err != nil {
		return fmt.Errorf("open the data volume: %w", err)
	}
	if err := m.mountOnce(device, m.Data, kind, volumeFlags, ""); err != nil {
		return fmt.Errorf("open the data volume: %w", err)
	}
	if err := os.Chmod(m.at(m.Data), 0o755); err != nil { //nolint:gosec // the engine's account looks into it
		return fmt.Errorf("open the data volume: %w", err)
	}
	m.say("the data volume %s (%s) is mounted at %s", device, kind, m.Data)
	if _, grown, err := Grow(m.Config); err != nil {
		m.say("the file system was not grown: %v", err) // the database can work with what there is
	} else if grown {
		m.say("the file system was grown to the size of the volume")
	}
	if err := m.fill(ctx, fresh); err != nil {
		return fmt.Errorf("open the data volume: %w", err)
	}
	return nil
}

// fileSystem says what a volume is mounted as, and makes it if the volume is blank. Whatever else is on it is somebody's data.
func (m *machine) fileSystem(ctx context.Context, disk string) (kind string, fresh bool, err error) {
	device := "/dev/" + disk
	parts, err := m.partitions(disk)
	if err != nil {
		return "", false, err
	}
	content, err := contentOf(m.at(device))
	if err != nil {
		return "", false, err
	}
	switch {
	case len(parts) > 0:
		content = "partitions"
	case content == xfs || content == ext4:
		return content, false, nil
	case content == blank || content == unfinished:
		m.say("the data volume %s is new (%s is on it): it is formatted", device, content)
		if err := m.Kernel.Run(ctx, "", "mkfs.xfs", "-q", "-f", "-K", "-L", "trove-data", device); err != nil {
			return "", false, fmt.Errorf("format it: %w", err)
		}
		return xfs, true, nil
	}
	return "", false, fmt.Errorf("the disk %s has %s on it. It is neither new nor a data volume of an instance, and is left as it is; "+
		"attach the right volume, or fill this one with zeros if nobody needs what is on it", device, content)
}

// Names on the data volume while the golden data directory is copied: it is copied under the first, whole under the second, and then moved to its place.
const (
	goldenPart  = ".golden-part"
	goldenWhole = ".golden"
)

// fill copies the image's initialised database onto a new volume, so that the database need not be made in the guest. A copy that was cut off is made
// again.
func (m *machine) fill(ctx context.Context, fresh bool) error {
	part, whole := m.at(m.Data, goldenPart), m.at(m.Data, goldenWhole)
	if fresh {
		if err := os.Mkdir(part, 0o700); err != nil {
			return fmt.Errorf("copy the initialised database: %w", err)
		}
	}
	if exists(part) {
		from, err := m.mountGolden()
		if err != nil {
			return fmt.Errorf("copy the initialised database: %w", err)
		}
		if from == "" {
			return os.RemoveAll(part)
		}
		err = m.copyGolden(ctx, from, part, whole)
		if err := errors.Join(err, m.Kernel.Unmount(from)); err != nil {
			return fmt.Errorf("copy the initialised database: %w", err)
		}
	}
	if !exists(whole) {
		return nil
	}
	entries, err := os.ReadDir(whole)
	if err != nil {
		return fmt.Errorf("place the initialised database: %w", err)
	}
	for _, e := range entries {
		if err := os.Rename(filepath.Join(whole, e.Name()), m.at(m.Data, e.Name())); err != nil {
			return fmt.Errorf("place the initialised database: %w", err)
		}
	}
	m.say("the initialised database was copied from the image")
	return os.Remove(whole)
}

// mountGolden mounts the third partition of the disk that the root is on; "" if the image has none.
func (m *machine) mountGolden() (string, error) {
	source, ok, err := m.mounted("/")
	if err != nil || !ok {
		return "", err
	}
	disk, isRoot := strings.CutSuffix(strings.TrimPrefix(source, "/dev/"), rootPartition)
	if !isRoot {
		return "", nil
	}
	device := "/dev/" + disk + goldenPartition
	if !exists(m.at(device)) {
		return "", nil
	}
	at := filepath.Join(m.Runtime, "golden")
	return at, m.mountOnce(device, at, squashfs, unix.MS_RDONLY|unix.MS_NODEV|unix.MS_NOSUID|unix.MS_NOEXEC, "")
}

// Partitions of an image; package image makes them.
const (
	rootPartition   = "2"
	goldenPartition = "3"
)

func (m *machine) copyGolden(ctx context.Context, from, part, whole string) error {
	if err := os.RemoveAll(part); err != nil {
		return err
	}
	if err := m.Kernel.Run(ctx, "", "cp", "--archive", "--sparse=always", "--no-target-directory", m.at(from), part); err != nil {
		return err
	}
	if err := restoreSizes(part); err != nil {
		return err
	}
	if err := m.Kernel.Run(ctx, "", "sync", "--file-system", part); err != nil {
		return err
	}
	return os.Rename(part, whole)
}

// restoreSizes gives files their zeros at the end again, which the image does not have.
func restoreSizes(tree string) error {
	dir, err := os.OpenRoot(tree)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	data, err := dir.ReadFile(imagelayout.GoldenSizes)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var sizes map[string]int64
	if err == nil {
		err = json.Unmarshal(data, &sizes)
	}
	if err != nil {
		return fmt.Errorf("read the sizes of files: %w", err)
	}
	for name, size := range sizes {
		f, err := dir.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
			return err
		}
	}
	return dir.Remove(imagelayout.GoldenSizes)
}

// previousFile, in the agent's directory on the data volume, names the volume of the previous image that was seen last. User data stays as it is when that
// volume is taken away after an upgrade, and later starts must not wait for it.
const previousFile = "previous-volume"

// openPrevious mounts the root of the image that the instance had before, for the programs of the new version that ask those of the old one. A machine
// without it goes on: only an upgrade needs it, and says so.
func (m *machine) openPrevious(ctx context.Context) error {
	if m.data.PreviousVolume == "" {
		return nil
	}
	seen := m.at(m.Data, filepath.Base(imagelayout.StateDir), previousFile)
	disk, err := m.findDisk(m.data.PreviousVolume)
	if err == nil && disk == "" {
		if text, readErr := os.ReadFile(seen); readErr == nil && string(text) == m.data.PreviousVolume {
			m.say("the volume of the previous image was taken away")
			return nil
		}
		disk, err = m.waitDisk(ctx, "the volume of the previous image", m.data.PreviousVolume)
	}
	if err == nil {
		err = m.mountPrevious(disk)
	}
	if err == nil {
		err = keepText(seen, m.data.PreviousVolume)
	}
	if err != nil {
		m.say("going on without the root of the previous image: %v", err)
	}
	return ctx.Err() //nolint:wrapcheck // the machine is being stopped
}

func keepText(file, text string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("note the volume: %w", err)
	}
	return atomicfile.Write(file, []byte(text), 0o600)
}

func (m *machine) mountPrevious(disk string) error {
	parts, err := m.partitions(disk)
	if err != nil {
		return err
	}
	for _, p := range parts {
		content, err := contentOf(m.at("/dev", p))
		if err != nil {
			return err
		}
		if content != squashfs {
			continue
		}
		if err := m.mountOnce("/dev/"+p, m.Previous, squashfs, unix.MS_RDONLY|unix.MS_NODEV|unix.MS_NOSUID, ""); err != nil {
			return err
		}
		m.say("the root of the previous image %s is mounted at %s", "/dev/"+p, m.Previous)
		return nil
	}
	return fmt.Errorf("the disk /dev/%s has no root of an image of Trove", disk)
}

// Grow lets the file system on the data volume fill a disk that has grown, and returns the disk's size. It may be called at any time, and does nothing most of
// the time.
func Grow(cfg Config) (size int64, grown bool, err error) {
	c := cfg.filled()
	source, ok, err := c.mounted(c.Data)
	if err != nil {
		return 0, false, err
	}
	disk := strings.TrimPrefix(source, "/dev/")
	if !ok || disk == source {
		return 0, false, fmt.Errorf("no disk is mounted at %s", c.Data)
	}
	if err := c.rescan(disk); err != nil {
		return 0, false, err
	}
	if size, err = c.diskSize(disk); err != nil {
		return 0, false, err
	}
	grown, err = c.Kernel.Fill(c.at(c.Data), size)
	return size, grown, err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
