package postgresql

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"

	trove "github.com/trove-dbaas/trove"
)

// Where things are in global/pg_control, as in every version since 9.4: the system's identifier first, the state of the cluster after three more numbers. The
// checksum's place differs; it is the one place where the sum of all before it stands.
const (
	controlFile   = "global/pg_control"
	controlSize   = 512 // what is read and written at once; the rest of the file is empty
	stateOffset   = 16
	stateShutdown = 1 // DB_SHUTDOWNED: it was ended cleanly
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// control is the beginning of the control file.
type control struct {
	data []byte
	crc  int // where the checksum is
}

func readControl(tree *os.Root) (control, error) {
	f, err := tree.Open(controlFile)
	if err != nil {
		return control{}, fmt.Errorf("read the control file: %w", err)
	}
	defer f.Close()
	c := control{data: make([]byte, controlSize)}
	if _, err := io.ReadFull(f, c.data); err != nil {
		return control{}, fmt.Errorf("read the control file: %w", err)
	}
	for c.crc = stateOffset + 4; c.crc <= controlSize-4; c.crc += 4 {
		if crc32.Checksum(c.data[:c.crc], castagnoli) == binary.LittleEndian.Uint32(c.data[c.crc:]) {
			return c, nil
		}
	}
	return control{}, errors.New("read the control file: its checksum is wrong")
}

func (c control) system() string { return strconv.FormatUint(binary.LittleEndian.Uint64(c.data), 10) }

func (c control) clean() bool {
	return binary.LittleEndian.Uint32(c.data[stateOffset:]) == stateShutdown
}

// rename gives the cluster another identifier.
func (c control) rename(tree *os.Root, id uint64) error {
	binary.LittleEndian.PutUint64(c.data, id)
	binary.LittleEndian.PutUint32(c.data[c.crc:], crc32.Checksum(c.data[:c.crc], castagnoli))
	f, err := tree.OpenFile(controlFile, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("write the control file: %w", err)
	}
	defer f.Close()
	if _, err := f.WriteAt(c.data, 0); err != nil {
		return fmt.Errorf("write the control file: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write the control file: %w", err)
	}
	return nil
}

// identify gives a copied data directory a system identifier of its own, so that no replica, archive or backup of one instance is taken for another's: the
// number in the control file, and the log begun anew under it by pg_resetwal, in the way of pg_createsubscriber. It returns the identifier. The server must be
// down; a directory whose server was not ended cleanly keeps its identifier, since its log is needed.
func (p place) identify(ctx context.Context, had string) (string, error) {
	tree, err := os.OpenRoot(p.dataDir())
	if errors.Is(err, os.ErrNotExist) {
		return "", trove.Wrap(trove.KindConflict, err, "The data directory was not made yet.")
	}
	if err != nil {
		return "", fmt.Errorf("open the data directory: %w", err)
	}
	defer func() { _ = tree.Close() }()
	c, err := readControl(tree)
	if err != nil {
		return "", err
	}
	_, err = tree.Lstat("postmaster.pid")
	if !c.clean() || err == nil || c.system() == had {
		return c.system(), nil
	}
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", fmt.Errorf("make an identifier: %w", err)
	}
	if err := c.rename(tree, binary.LittleEndian.Uint64(random[:])>>1); err != nil { // it is shown as a signed number by some
		return "", err
	}
	if err := p.run(ctx, "", "pg_resetwal", "-D", p.dataDir()); err != nil {
		return "", fmt.Errorf("begin the log anew: %w", err)
	}
	return c.system(), nil
}
