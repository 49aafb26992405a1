// Package mounts puts file systems below a directory of ours so that a user namespace sees its own user ids in them: idmapped mounts, with the
// kernel's descriptor-based mount calls.
//
// Nothing here remembers anything: whether a directory is a mount point is asked of the kernel. Functions may be called from several
// goroutines; two calls for one target at the same time are the caller's to prevent.
package mounts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Attributes that may be set on a mount.
const (
	ReadOnly = unix.MOUNT_ATTR_RDONLY
	NoSuid   = unix.MOUNT_ATTR_NOSUID
	NoDev    = unix.MOUNT_ATTR_NODEV
	NoExec   = unix.MOUNT_ATTR_NOEXEC
	NoAtime  = unix.MOUNT_ATTR_NOATIME
)

// Bind makes the directory source appear at target with the attributes, seen through the user namespace ns (nil: unchanged ids). What is
// mounted below source does not come along. Target must exist; one that is a mount point already is left as it is.
func Bind(source, target string, attrs uint64, ns *UserNS) error {
	if on, err := Mounted(target); err != nil || on {
		return err
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("clone the mount of %s: %w", source, err)
	}
	defer closeFD(fd)
	return place(fd, target, attrs, ns)
}

// Block mounts the file system of the given type on a block device at target with options ("nouuid") and attributes, seen through the user
// namespace ns. Target must exist; one that is a mount point already is left as it is.
func Block(fstype, device, target string, options []string, attrs uint64, ns *UserNS) error {
	if on, err := Mounted(target); err != nil || on {
		return err
	}
	fd, err := create(fstype, options, map[string]string{"source": device})
	if err != nil {
		return fmt.Errorf("mount %s: %w", device, err)
	}
	defer closeFD(fd)
	return place(fd, target, attrs, ns)
}

// Tmpfs mounts a file system in memory at target, of at most size bytes and with a root directory of the given mode. One that is there is left
// as it is.
func Tmpfs(target string, size int64, mode os.FileMode) error {
	if on, err := Mounted(target); err != nil || on {
		return err
	}
	fd, err := create("tmpfs", nil, map[string]string{
		"source": "trove", "size": fmt.Sprint(size), "mode": fmt.Sprintf("%04o", mode.Perm()),
	})
	if err != nil {
		return fmt.Errorf("mount a tmpfs at %s: %w", target, err)
	}
	defer closeFD(fd)
	return place(fd, target, NoSuid|NoDev|NoExec, nil)
}

// create makes a file system context, and of it a mount that is nowhere yet.
func create(fstype string, flags []string, options map[string]string) (int, error) {
	ctx, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("file system %s: %w", fstype, err)
	}
	defer closeFD(ctx)
	for _, f := range flags {
		if err := unix.FsconfigSetFlag(ctx, f); err != nil {
			return -1, fmt.Errorf("option %s: %w", f, err)
		}
	}
	for k, v := range options {
		if err := unix.FsconfigSetString(ctx, k, v); err != nil {
			return -1, fmt.Errorf("option %s=%s: %w", k, v, err)
		}
	}
	if err := unix.FsconfigCreate(ctx); err != nil {
		return -1, fmt.Errorf("%w%s", err, said(ctx))
	}
	fd, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("%w%s", err, said(ctx))
	}
	return fd, nil
}

// said reads what the kernel has to say about a failed mount: its messages wait in the context's descriptor.
func said(ctx int) string {
	var text string
	buf := make([]byte, 512)
	for {
		n, err := unix.Read(ctx, buf)
		if err != nil || n <= 0 {
			return text
		}
		text += ": " + string(buf[:n])
	}
}

func closeFD(fd int) { _ = unix.Close(fd) }

// place gives a detached mount its attributes and ids and puts it at target. The mount must be detached: an attached one cannot be idmapped.
func place(fd int, target string, attrs uint64, ns *UserNS) error {
	attr := unix.MountAttr{Attr_set: attrs, Propagation: unix.MS_PRIVATE}
	if attrs&NoAtime != 0 {
		attr.Attr_clr = unix.MOUNT_ATTR__ATIME
	}
	if ns != nil {
		attr.Attr_set |= unix.MOUNT_ATTR_IDMAP
		attr.Userns_fd = uint64(ns.file.Fd())
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		if ns != nil && errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("map the user ids of %s: the file system does not support it: %w", target, err)
		}
		return fmt.Errorf("set the attributes of the mount %s: %w", target, err)
	}
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount at %s: %w", target, err)
	}
	return nil
}

// Mounted reports whether path is a mount point. A path that does not exist is none.
func Mounted(path string) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, 0, &st)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look whether %s is a mount point: %w", path, err)
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}

// Unmount takes away what is mounted at path, however often. A path without a mount is fine.
func Unmount(path string) error {
	for {
		on, err := Mounted(path)
		if err != nil || !on {
			return err
		}
		if err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
}

// UnmountBelow unmounts the mount points directly below dir and then dir itself.
func UnmountBelow(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for mounts below %s: %w", dir, err)
	}
	for _, e := range entries {
		if err := Unmount(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return Unmount(dir)
}
