package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/internal/machinedata"
)

// Where an ISO 9660 file system says what it is and how it is called.
const (
	isoSector = 16 * 2048
	isoMagic  = "\x01CD001"
	isoLabel  = 40
)

// readDrive finds the config drive and reads what Nova and the controllers wrote on it.
func (m *machine) readDrive(ctx context.Context) error {
	device := ""
	err := m.until(ctx, m.DriveWait, "the config drive, a disk or CD-ROM with the label "+machinedata.DriveLabel, func() (bool, error) {
		disks, err := m.disks()
		if err != nil {
			return false, err
		}
		for _, d := range disks {
			if m.isVolume(d) || !isConfigDrive(m.at("/dev", d)) {
				continue
			}
			device = "/dev/" + d
			break
		}
		return device != "", nil
	})
	if err != nil {
		return fmt.Errorf("read the config drive: %w", err)
	}
	at := filepath.Join(m.Runtime, "drive")
	if err := m.mountOnce(device, at, "iso9660", unix.MS_RDONLY|unix.MS_NODEV|unix.MS_NOSUID|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("read the config drive: %w", err)
	}
	err = m.readFiles(at)
	if unmountErr := m.Kernel.Unmount(at); err == nil && unmountErr != nil {
		err = fmt.Errorf("let go of the config drive: %w", unmountErr)
	}
	if err != nil {
		return err
	}
	m.say("the config drive %s was read", device)
	return nil
}

func (m *machine) readFiles(at string) error {
	user, err := readLimited(m.at(at, machinedata.UserDataFile), machinedata.MaxBytes)
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("the config drive has no user data: this server was not made by Trove")
	}
	if err != nil {
		return fmt.Errorf("read the user data: %w", err)
	}
	if m.data, err = machinedata.Parse(user); err != nil {
		return err
	}
	meta, err := readLimited(m.at(at, machinedata.MetaDataFile), machinedata.MaxMetaData)
	if errors.Is(err, os.ErrNotExist) {
		return nil // only the host name would be in it
	}
	if err != nil {
		return fmt.Errorf("read Nova's metadata: %w", err)
	}
	m.meta, err = machinedata.ParseMetaData(meta)
	return err
}

// readLimited reads a file of at most one byte more than the limit, which the parser then refuses.
func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit+1))
}

// isVolume reports whether a disk is a volume of Cinder: its serial number is the beginning of an id. Root in the guest can write what it likes to the data volume, and
// the label of a config drive among it: the next image would take its orders from there.
func (c Config) isVolume(disk string) bool { return volumePattern.MatchString(c.serial(disk)) }

var volumePattern = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-`)

// isConfigDrive looks at a disk's label. A drive without a disk, or that is not there yet, is none.
func isConfigDrive(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 2048)
	if _, err := f.ReadAt(head, isoSector); err != nil || !bytes.HasPrefix(head, []byte(isoMagic)) {
		return false
	}
	label := strings.TrimRight(string(head[isoLabel:isoLabel+32]), " \x00")
	return strings.EqualFold(label, machinedata.DriveLabel)
}
