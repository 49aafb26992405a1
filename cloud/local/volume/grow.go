package volume

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The ioctls of xfs, from its public header xfs_fs.h: the size of the argument is part of the number.
const (
	xfsGeometryV1 = 0x80705864 // _IOR('X', 100, struct xfs_fsop_geom_v1)
	xfsGrowData   = 0x4010586e // _IOW('X', 110, struct xfs_growfs_data)
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

// grow lets the loop device see the file's size and the file system fill the device.
func grow(a Attached, image, target string) error {
	info, err := os.Stat(image)
	if err != nil {
		return err
	}
	dir, err := os.Open(target)
	if err != nil {
		return err
	}
	defer dir.Close()
	var geometry xfsGeometry
	if err := ioctl(dir, xfsGeometryV1, unsafe.Pointer(&geometry)); err != nil { //nolint:gosec // the kernel fills a struct of the size in the number
		return fmt.Errorf("read the geometry: %w", err)
	}
	blocks := uint64(info.Size()) / uint64(geometry.blockSize)
	if blocks <= geometry.dataBlocks {
		return nil
	}
	if err := updateCapacity(a.Device); err != nil {
		return err
	}
	want := xfsGrow{newBlocks: blocks, maxInodePercent: geometry.maxInodePercent}
	if err := ioctl(dir, xfsGrowData, unsafe.Pointer(&want)); err != nil { //nolint:gosec // the kernel reads a struct of the size in the number
		return fmt.Errorf("from %d to %d blocks: %w", geometry.dataBlocks, blocks, err)
	}
	return nil
}

func updateCapacity(device string) error {
	dev, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer dev.Close()
	if err := unix.IoctlSetInt(int(dev.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
		return fmt.Errorf("update the capacity of %s: %w", device, err)
	}
	return nil
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
