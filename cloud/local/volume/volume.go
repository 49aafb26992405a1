// Package volume keeps data volumes: each an image file with an xfs file system, on a loop device with direct I/O, mounted with the ids of its
// instance's user namespace.
//
// xfs, because ext4 grows online only with CAP_SYS_RESOURCE, which a controller in a container need not have. Nothing is remembered
// here: an image file is a volume, whether it is attached is asked of the kernel. Functions may be repeated after a crash at any point; two
// calls for one volume at the same time are the caller's to prevent, otherwise they may be called from several goroutines.
package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/cloud/local/mounts"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/execx"
)

// ErrNoSpace says that the file system of the image files cannot hold the volume.
var ErrNoSpace = errors.New("the file system has no space for the volume")

// sector is the sector size of every volume. A file system made with smaller ones could not be mounted through a direct-I/O loop on a
// disk with sectors of 4 KiB.
const sector = 4096

// Spec is what a volume's image file shall be.
type Spec struct {
	Image   string // path of the image file
	Size    int64  // bytes
	Golden  string // image file to start from; "" for an empty file system
	Spare   string // a copy of Golden that may be taken instead, "" for none; gone afterwards
	Reserve bool   // take the whole space from the file system now
}

// Make makes the image file, whole or not at all. One that is there is left as it is. It returns ErrNoSpace if the space cannot be had.
func Make(ctx context.Context, s Spec) (err error) {
	if _, err := os.Stat(s.Image); err == nil {
		return nil
	}
	part := s.Image + ".part"
	if err := os.Remove(part); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("make volume %s: %w", s.Image, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(part)
			err = fmt.Errorf("make volume %s: %w", s.Image, err)
		}
	}()
	switch {
	case s.Spare != "" && os.Rename(s.Spare, part) == nil:
	case s.Golden != "":
		if err := Copy(ctx, s.Golden, part); err != nil {
			return err
		}
	default:
		if err := format(ctx, part, s.Size); err != nil {
			return err
		}
	}
	if err := extend(part, s.Size, s.Reserve); err != nil {
		return err
	}
	return os.Rename(part, s.Image)
}

func format(ctx context.Context, path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return err
	}
	_, err = execx.Run(ctx, execx.Cmd{Path: "mkfs.xfs", Args: []string{"-q", "-s", fmt.Sprintf("size=%d", sector), path}})
	return err
}

// extend gives a file the size, never a smaller one, takes the space for it if reserve is set, and sees it to the disk. If the space cannot be had the file is as before.
func extend(path string, size int64, reserve bool) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if size < info.Size() {
		return fmt.Errorf("the file of %d bytes cannot become %d bytes", info.Size(), size)
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	if reserve {
		// Plain allocation fills holes with unwritten extents and leaves data alone.
		if err := allocate(f, size); err != nil {
			if err := f.Truncate(info.Size()); err != nil {
				return err
			}
			return err
		}
	}
	return f.Sync()
}

func allocate(f *os.File, size int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, size)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
			return fmt.Errorf("reserve %d bytes: %w", size, ErrNoSpace)
		case errors.Is(err, unix.EOPNOTSUPP):
			return fmt.Errorf("the file system of %s cannot reserve space: use another one, or switch overcommit on: %w", f.Name(), err)
		default:
			return err
		}
	}
}

// Attached is a volume that is mounted.
type Attached struct {
	Device string // loop device
	Loop   int    // its number
	Direct bool   // with direct I/O; some file systems cannot
}

// Number returns the device's number as major:minor.
func (a Attached) Number() string { return fmt.Sprintf("%d:%d", loopMajor, a.Loop) }

// Attach mounts the volume at target, which is a directory, and lets the file system fill the image file. A volume that is mounted there already
// only grows. Space that is freed in it stays the volume's own.
func Attach(image, target string, ns *mounts.UserNS) (Attached, error) {
	return attachAs(image, target, ns, false)
}

// AttachSparse is Attach for a volume whose space is not reserved: what is freed in it goes back to the file system of the image file.
func AttachSparse(image, target string, ns *mounts.UserNS) (Attached, error) {
	return attachAs(image, target, ns, true)
}

func attachAs(image, target string, ns *mounts.UserNS, sparse bool) (Attached, error) {
	on, err := mounts.Mounted(target)
	if err != nil {
		return Attached{}, err
	}
	if !on {
		if err := attach(image, target, ns, sparse); err != nil {
			return Attached{}, fmt.Errorf("attach volume %s: %w", image, err)
		}
	}
	a, err := find(target)
	if err != nil {
		return Attached{}, err
	}
	if err := grow(a, image, target); err != nil {
		return Attached{}, fmt.Errorf("grow volume %s: %w", image, err)
	}
	return a, nil
}

func attach(image, target string, ns *mounts.UserNS, sparse bool) error {
	// The loop lets go of its file when the last user closes it (autoclear), so it stays open until it is mounted. That also means that a
	// crash in between leaves nothing.
	dev, err := openAttached(image)
	if err == nil && dev == nil {
		dev, err = openLoop(image)
	}
	if err != nil {
		return err
	}
	defer dev.Close()
	// All volumes of an image have the same UUID, being copies.
	options := []string{"nouuid"}
	if sparse {
		options = append(options, "discard")
	}
	return mounts.Block("xfs", dev.Name(), target, options, mounts.NoAtime|mounts.NoDev|mounts.NoSuid|mounts.NoExec, ns)
}

// Find returns how the volume at target is attached; the error matches os.ErrNotExist if nothing is mounted there.
func Find(target string) (Attached, error) {
	on, err := mounts.Mounted(target)
	if err != nil {
		return Attached{}, err
	}
	if !on {
		return Attached{}, fmt.Errorf("find the volume at %s: %w", target, os.ErrNotExist)
	}
	return find(target)
}

func find(target string) (Attached, error) {
	var st unix.Stat_t
	if err := unix.Stat(target, &st); err != nil {
		return Attached{}, fmt.Errorf("find the volume at %s: %w", target, err)
	}
	if unix.Major(st.Dev) != loopMajor {
		return Attached{}, fmt.Errorf("find the volume at %s: what is mounted there is not on a loop device", target)
	}
	n := int(unix.Minor(st.Dev))
	return Attached{Device: loopPath(n), Loop: n, Direct: loopIsDirect(n)}, nil
}

// Extend makes the volume larger, online if it is attached at target. A smaller or equal size changes nothing, but that with reserve the file gets the
// blocks that it lacks: it may have been made without, or somebody has punched holes. It returns ErrNoSpace if the space cannot be had.
func Extend(image, target string, size int64, reserve bool) error {
	info, err := os.Stat(image)
	if err != nil {
		return fmt.Errorf("extend volume %s: %w", image, err)
	}
	if size > info.Size() || reserve && blocksOf(info) < size {
		if err := extend(image, max(size, info.Size()), reserve); err != nil {
			return fmt.Errorf("extend volume %s: %w", image, err)
		}
	}
	a, err := Find(target)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := grow(a, image, target); err != nil {
		return fmt.Errorf("extend volume %s: %w", image, err)
	}
	return nil
}

func blocksOf(info os.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}

// freeTimeout is how long Detach waits for the loop device after the mount is gone.
const freeTimeout = time.Second

// Detach unmounts the volume and waits a moment for its loop device to be free. One that is not attached is fine. Another mount namespace may hold a copy
// of the mount, for some milliseconds that of a sandbox that starts, for longer one that has nothing to do with us; then the device is free, and
// the space of a removed image, when that namespace ends.
func Detach(ctx context.Context, target string) error {
	a, err := Find(target)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := unmount(ctx, target); err != nil {
		return err
	}
	for waited := time.Duration(0); loopAttached(a.Loop) && waited < freeTimeout; waited += time.Millisecond {
		if err := clock.Sleep(ctx, time.Millisecond); err != nil {
			return fmt.Errorf("detach the volume at %s: %w", target, err)
		}
	}
	return nil
}

// unmount tries again while the last process of a sandbox is leaving.
func unmount(ctx context.Context, target string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, fmt.Errorf("a process of this machine uses %s", target))
	defer cancel()
	for {
		err := mounts.Unmount(target)
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		if waitErr := clock.Sleep(ctx, 5*time.Millisecond); waitErr != nil {
			return fmt.Errorf("%w: %w", err, waitErr)
		}
	}
}

// Remove deletes the image file and what a broken-off Make left of it. It must be detached.
func Remove(image string) error {
	for _, path := range []string{image, image + ".part"} {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove volume %s: %w", filepath.Base(image), err)
		}
	}
	return nil
}
