// Package growfs lets a mounted file system fill the device that it is on, online: xfs and ext4. It runs no program; the caller needs the right to grow
// file systems.
//
// It may be called as often as one likes: a file system that fills its device already is left alone. Calls for one file system must not overlap.
package growfs

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The ioctls of xfs, from its public header xfs_fs.h, and of ext4: the size of the argument is part of the number.
const (
	xfsGeometryV1 = 0x80705864 // _IOR('X', 100, struct xfs_fsop_geom_v1)
	xfsGrowData   = 0x4010586e // _IOW('X', 110, struct xfs_growfs_data)
	ext4Resize    = 0x40086610 // _IOW('f', 16, __u64)
)

// Kinds of file systems as statfs tells them.
const (
	xfsMagic  = 0x58465342
	ext4Magic = 0xef53 // also of ext2 and ext3, which the driver of ext4 mounts
)

type xfsGeometry struct {
	blockSize, rtExtSize, agBlocks, agCount, logBlocks, sectorSize, inodeSize, maxInodePercent uint32
	dataBlocks, rtBlocks, rtExtents, logStart                                                  uint64
	uuid                                                                                       [16]byte
	sunit, swidth                                                                              uint32
	version                                                                                    int32
	flags, logSectorSize, rtSectorSize, dirBlockSize                                           uint32
	_                                                                                          uint32
}

type xfsGrow struct {
	newBlocks       uint64
	maxInodePercent uint32
	_               uint32
}

// ext4Slack is how much smaller than its device an ext4 may be, beside 4 % for tables, and yet seem to fill it: the last group may be too small for its own.
const ext4Slack = 16 << 20

// Fill makes the file system that is mounted at a directory as large as its device, of size bytes. It reports whether it had to grow.
func Fill(mountpoint string, size int64) (grown bool, err error) {
	dir, err := os.Open(mountpoint)
	if err != nil {
		return false, fmt.Errorf("grow the file system: %w", err)
	}
	defer dir.Close()
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &fs); err != nil {
		return false, fmt.Errorf("grow the file system at %s: %w", mountpoint, err)
	}
	switch int64(fs.Type) { //nolint:unconvert // its type differs between processors
	case xfsMagic:
		grown, err = fillXFS(dir, size)
	case ext4Magic:
		grown, err = fillExt4(dir, fs, size)
	default:
		err = fmt.Errorf("it is of the kind %#x, not xfs or ext4", fs.Type)
	}
	if err != nil {
		return false, fmt.Errorf("grow the file system at %s: %w", mountpoint, err)
	}
	return grown, nil
}

func fillXFS(dir *os.File, size int64) (bool, error) {
	var geometry xfsGeometry
	if err := ioctl(dir, xfsGeometryV1, unsafe.Pointer(&geometry)); err != nil { //nolint:gosec // the kernel fills a struct of the size in the number
		return false, fmt.Errorf("read the geometry: %w", err)
	}
	blocks := uint64(size) / uint64(geometry.blockSize)
	if blocks <= geometry.dataBlocks {
		return false, nil
	}
	want := xfsGrow{newBlocks: blocks, maxInodePercent: geometry.maxInodePercent}
	if err := ioctl(dir, xfsGrowData, unsafe.Pointer(&want)); err != nil { //nolint:gosec // the kernel reads a struct of the size in the number
		return false, fmt.Errorf("from %d to %d blocks: %w", geometry.dataBlocks, blocks, err)
	}
	return true, nil
}

// fillExt4 asks the kernel each time, which leaves an ext4 alone that has as many blocks: statfs tells only those that are not for tables and the journal, and
// what these take grows with the file system. An ext4 that cannot grow while it is mounted need not, where it seems to fill its device.
func fillExt4(dir *os.File, before unix.Statfs_t, size int64) (bool, error) {
	blocks := uint64(size) / uint64(before.Bsize)
	if err := ioctl(dir, ext4Resize, unsafe.Pointer(&blocks)); err != nil { //nolint:gosec // the kernel reads a number of the size in the request
		if have := int64(before.Blocks) * before.Bsize; have+have/25+ext4Slack >= size {
			return false, nil
		}
		return false, fmt.Errorf("to %d blocks: %w", blocks, err)
	}
	var after unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &after); err != nil {
		return false, fmt.Errorf("look at it again: %w", err)
	}
	return after.Blocks != before.Blocks, nil
}

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(arg))
		if errno == 0 {
			return nil
		}
		if errno != unix.EINTR {
			return errno
		}
	}
}
