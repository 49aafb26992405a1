package machine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
)

// How much is looked at from a disk's beginning and end before it counts as one that nobody has written to. Everything that marks a disk as somebody's has
// its mark there: file systems at the beginning, GPT, md and ZFS at the end too.
const (
	headBytes = 4 << 20
	tailBytes = 1 << 20
)

// Kinds of content that are not refused.
const (
	blank      = "nothing"
	unfinished = "an xfs whose making was cut off"
	xfs        = "xfs"
	ext4       = "ext4" // and what came before it, which its driver mounts
	squashfs   = "squashfs"
)

// marks are what is told apart by bytes at a place, to call what is refused by its name too.
var marks = []struct {
	at   int64
	text string
	name string
}{
	{0, "XFSB", xfs},
	{1024 + 56, "\x53\xef", ext4},
	{0, "hsqs", squashfs},
	{0, "LUKS\xba\xbe", "an encrypted volume (LUKS)"},
	{512, "LABELONE", "a physical volume of LVM"},
	{0x10040, "_BHRfS_M", "btrfs"},
	{4096 - 10, "SWAPSPACE2", "swap space"},
	{512, "EFI PART", "a partition table (GPT)"},
	{1024, "\xe2\xe1\xf5\xe0", "erofs"},
	{0, "QFI\xfb", "an image in the form qcow2"},
	{isoSector, isoMagic, "ISO 9660"},
	{510, "\x55\xaa", "a partition table (MBR) or a boot sector"},
}

// contentOf says what is on a disk or a partition.
func contentOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("look at %s: %w", path, err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return "", fmt.Errorf("look at %s: %w", path, err)
	}
	if size == 0 {
		return "", fmt.Errorf("look at %s: it has no size, so nothing of it can be read", path)
	}
	head := make([]byte, min(size, headBytes))
	if _, err := f.ReadAt(head, 0); err != nil {
		return "", fmt.Errorf("look at %s: %w", path, err)
	}
	if name := known(head); name != "" {
		return name, nil
	}
	tail := make([]byte, min(size, tailBytes))
	if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil {
		return "", fmt.Errorf("look at %s: %w", path, err)
	}
	if zero(head) && zero(tail) {
		return blank, nil
	}
	return "something that is none of the known file systems", nil
}

// Places in the superblock of an xfs: the size of its blocks, and whether it is being made.
const (
	xfsInProgress = 126
)

func known(head []byte) string {
	for _, m := range marks {
		if end := m.at + int64(len(m.text)); int64(len(head)) < end || string(head[m.at:end]) != m.text {
			continue
		}
		if m.name == xfs && len(head) > xfsInProgress && head[xfsInProgress] != 0 && binary.BigEndian.Uint32(head[4:]) != 0 {
			return unfinished
		}
		return m.name
	}
	return ""
}

func zero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }
