package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/local/cgroup"
	"github.com/trove-dbaas/trove/cloud/local/mounts"
	"github.com/trove-dbaas/trove/cloud/local/sandbox"
	"github.com/trove-dbaas/trove/cloud/local/volume"
)

// Nameless returns the instances whose volume is attached although its image file was deleted: the data is on the disk for as long as the volume stays
// attached, and has no name.
func Nameless(state, dir string) ([]string, error) {
	p, err := looking(state, dir)
	if err != nil {
		return nil, err
	}
	ids, err := p.instances()
	if err != nil {
		return nil, err
	}
	var all []string
	for _, id := range ids {
		if exists(p.image(id)) {
			continue
		}
		if _, err := volume.Find(p.in(id, "data")); err == nil {
			all = append(all, id)
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	return all, nil
}

// Rescue stops the machine of an instance whose volume is attached without a name, copies the volume into an image file, and takes away what was mounted for
// the machine, whose image is gone as well. The next EnsureMachine starts it from what is on the disk then. The volume stays attached until the copy is
// whole and flushed: cut off at any point, it can be repeated.
func Rescue(ctx context.Context, state, dir, id string, log *slog.Logger) error {
	if err := checkID(id); err != nil {
		return err
	}
	p, err := looking(state, dir)
	if err != nil {
		return err
	}
	unlock, err := p.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock(false)
	if err := p.rescue(ctx, id, log); err != nil {
		return fmt.Errorf("rescue the volume of instance %s: %w", id, err)
	}
	return nil
}

func (p paths) rescue(ctx context.Context, id string, log *slog.Logger) error {
	tree, err := cgroup.Open(cgroupRoot)
	if err != nil {
		return err
	}
	runtime := sandbox.Runtime{Dir: p.runc(), Parent: "/" + p.name, Groups: tree, Log: log}
	if err := runtime.Stop(ctx, id, stopGrace); err != nil {
		return err
	}
	if err := runtime.Remove(ctx, id); err != nil {
		return err
	}
	data := p.in(id, "data")
	if !exists(p.image(id)) {
		a, err := volume.Find(data)
		if err != nil {
			return err
		}
		if err := copyFrozen(data, a.Device, p.image(id)); err != nil {
			return err
		}
	}
	for _, name := range []string{"root", "previous", "agent", "config"} {
		if err := mounts.Unmount(p.in(id, name)); err != nil {
			return err
		}
	}
	return volume.Detach(ctx, data)
}

// The requests of linux/fs.h that x/sys does not have.
const (
	fiFreeze = 0xc0045877
	fiThaw   = 0xc0045878
	blkFlush = 0x1261
)

// copyFrozen copies a mounted file system's device into a file. While it is frozen nothing of it is anywhere else than on the device. The copy gets its name when it
// is whole and on the disk.
func copyFrozen(mount, device, image string) (err error) {
	on, err := os.Open(mount)
	if err != nil {
		return err
	}
	defer on.Close()
	if err := unix.IoctlSetInt(int(on.Fd()), fiFreeze, 0); err != nil && !errors.Is(err, unix.EBUSY) { // EBUSY: frozen by a try that was cut off
		return fmt.Errorf("freeze %s: %w", mount, err)
	}
	defer func() {
		if thaw := unix.IoctlSetInt(int(on.Fd()), fiThaw, 0); thaw != nil {
			err = errors.Join(err, fmt.Errorf("thaw %s: %w", mount, thaw))
		}
	}()
	from, err := os.Open(device)
	if err != nil {
		return err
	}
	defer from.Close()
	if err := unix.IoctlSetInt(int(from.Fd()), blkFlush, 0); err != nil { // what was read of the device before may be old
		return fmt.Errorf("read %s anew: %w", device, err)
	}
	size, err := from.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if _, err := from.Seek(0, io.SeekStart); err != nil {
		return err
	}
	part := image + ".part"
	to, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer to.Close()
	if err := copyBlocks(to, from, size); err != nil {
		return err
	}
	if err := to.Sync(); err != nil {
		return err
	}
	if err := os.Rename(part, image); err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(image))
	if err != nil {
		return err
	}
	defer parent.Close()
	return parent.Sync()
}

// copyBlocks copies size bytes and leaves blocks of zeros holes.
func copyBlocks(to *os.File, from io.Reader, size int64) error {
	if err := to.Truncate(size); err != nil {
		return err
	}
	const block = 1 << 20
	buf, zeros := make([]byte, block), make([]byte, block)
	for at := int64(0); at < size; {
		n, err := io.ReadFull(from, buf[:min(block, size-at)])
		if n > 0 && !bytes.Equal(buf[:n], zeros[:n]) {
			if _, err := to.WriteAt(buf[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		if err != nil {
			return trove.Permanent(fmt.Errorf("read the volume at %d of %d bytes: %w", at, size, err))
		}
	}
	return nil
}
