package volume

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/internal/growfs"
)

// grow lets the loop device see the file's size and the file system fill the device.
func grow(a Attached, image, target string) error {
	info, err := os.Stat(image)
	if err != nil {
		return err
	}
	if err := updateCapacity(a.Device); err != nil {
		return err
	}
	_, err = growfs.Fill(target, info.Size())
	return err //nolint:wrapcheck // says what it did
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
