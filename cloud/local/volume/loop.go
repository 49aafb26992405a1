package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	loopMajor   = 7
	loopControl = "/dev/loop-control"
)

func loopPath(n int) string { return fmt.Sprintf("/dev/loop%d", n) }

// openLoop attaches the file to a free loop device and returns the open device. When the last user closes it, the device is free again.
func openLoop(image string) (*os.File, error) {
	file, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	const attempts = 64 // as many others may take the free device before us
	for range attempts {
		dev, err := freeLoop()
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(file.Fd()), Size: sector}
		config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO
		copy(config.Info.File_name[:len(config.Info.File_name)-1], image)
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &config)
		if errors.Is(err, unix.EINVAL) {
			// The file system does not do direct I/O; newer kernels fall back by themselves.
			config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
			err = unix.IoctlLoopConfigure(int(dev.Fd()), &config)
		}
		if err == nil {
			return dev, nil
		}
		dev.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("attach %s: %w", dev.Name(), err)
		}
	}
	return nil, errors.New("no loop device could be had: all that were free were taken by others meanwhile")
}

// openAttached returns the open loop device that the file is attached to already, nil if there is none: a mount namespace that is not ours may hold a copy
// of an earlier mount. A second device would be a second file system over the same blocks; the same device gives the same file system once more.
func openAttached(image string) (*os.File, error) {
	var want unix.Stat_t
	if err := unix.Stat(image, &want); err != nil {
		return nil, fmt.Errorf("attach %s: %w", image, err)
	}
	found, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	for _, file := range found {
		if data, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(data)) != image {
			continue // free meanwhile, or another's
		}
		dev, err := os.OpenFile(filepath.Join("/dev", filepath.Base(filepath.Dir(filepath.Dir(file)))), os.O_RDWR, 0)
		if err != nil {
			return nil, fmt.Errorf("attach %s: %w", image, err)
		}
		// Open, it cannot become free any more; it may have done so before.
		if info, err := unix.IoctlLoopGetStatus64(int(dev.Fd())); err == nil && info.Inode == want.Ino && info.Device == want.Dev {
			return dev, nil
		}
		dev.Close()
	}
	return nil, nil
}

func freeLoop() (*os.File, error) {
	control, err := os.OpenFile(loopControl, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("loop devices: %w", err)
	}
	defer control.Close()
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return nil, fmt.Errorf("get a free loop device: %w", err)
	}
	dev, err := os.OpenFile(loopPath(n), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		// Where /dev is no devtmpfs nobody makes the node.
		if err := unix.Mknod(loopPath(n), unix.S_IFBLK|0o660, int(unix.Mkdev(loopMajor, uint32(n)))); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, fmt.Errorf("make the node %s: %w", loopPath(n), err)
		}
		dev, err = os.OpenFile(loopPath(n), os.O_RDWR, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("open a loop device: %w", err)
	}
	return dev, nil
}

func loopAttached(n int) bool {
	_, err := os.Stat(fmt.Sprintf("/sys/block/loop%d/loop/backing_file", n))
	return err == nil
}

func loopIsDirect(n int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/sys/block/loop%d/loop/dio", n))
	return err == nil && strings.TrimSpace(string(data)) == "1"
}

// firstMade is the first loop device that the kernel made on demand and not at its start.
const firstMade = 8

// RemoveLoop gives back a loop device that was made on demand and is not in use any more. One that is in use, or was always there, stays.
func RemoveLoop(n int) error {
	if n < firstMade {
		return nil
	}
	control, err := os.OpenFile(loopControl, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("loop devices: %w", err)
	}
	defer control.Close()
	err = unix.IoctlSetInt(int(control.Fd()), unix.LOOP_CTL_REMOVE, n)
	if err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove loop device %d: %w", n, err)
	}
	return nil
}
