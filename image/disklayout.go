package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/trove-dbaas/trove/internal/imagelayout"
)

// The disk, in sectors of 512 bytes and parts that begin at a whole MiB:
//
//	0     first sector: boot loader's beginning, signature, partition table
//	1     the rest of the boot loader
//	1 MiB partition 1: kernel and initial root one after the other, without a file system; the loader knows their places
//	...   partition 2: the root, squashfs
//	...   partition 3: an initialised data directory, squashfs; not in every image
const (
	sector    = 512
	alignment = 1 << 20
)

// parts are what a disk is made of.
type parts struct {
	first  []byte // the first MiB
	boot   []byte
	root   string // files with file systems
	golden string // "": none
}

// join writes the disk. The sum is of all but the golden part and of the two fields of the table that depend on it.
func (p parts) join(to string) (sum string, size int64, err error) {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	rootSize, err := fileSize(p.root)
	if err != nil {
		return "", 0, err
	}
	table := []partition{{0xda, len(p.boot)}, {0x83, int(rootSize)}}
	h.Write(withTable(p.first, table))
	if p.golden != "" {
		n, err := fileSize(p.golden)
		if err != nil {
			return "", 0, err
		}
		table = append(table, partition{0x83, int(n)})
	}
	if _, err := f.Write(withTable(p.first, table)); err != nil {
		return "", 0, err
	}
	if _, err := io.MultiWriter(f, h).Write(padded(p.boot)); err != nil {
		return "", 0, err
	}
	if err := appendFile(io.MultiWriter(f, h), p.root); err != nil {
		return "", 0, err
	}
	if p.golden != "" {
		if err := appendFile(f, p.golden); err != nil {
			return "", 0, err
		}
	}
	end, err := f.Seek(0, io.SeekEnd)
	return hex.EncodeToString(h.Sum(nil)), end, errors.Join(err, f.Close())
}

func fileSize(name string) (int64, error) {
	info, err := os.Stat(name)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func appendFile(w io.Writer, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(w, f)
	if err == nil {
		_, err = w.Write(make([]byte, missing(int(n))))
	}
	return err
}

// missing is how many bytes are missing up to a whole MiB.
func missing(n int) int { return (alignment - n%alignment) % alignment }

func padded(b []byte) []byte { return append(slices.Clip(b), make([]byte, missing(len(b)))...) }

type partition struct {
	kind byte
	size int
}

const tableAt = 446 // in the first sector; the signature stands before it

// withTable writes the partition table into a copy of the first MiB. Addresses by cylinder are the largest possible: nobody uses them.
func withTable(first []byte, all []partition) []byte {
	out := slices.Clone(first)
	at := alignment
	for i, p := range all {
		e := out[tableAt+16*i:]
		if i == 0 {
			e[0] = 0x80
		}
		copy(e[1:], "\xfe\xff\xff")
		e[4] = p.kind
		copy(e[5:], "\xfe\xff\xff")
		size := p.size + missing(p.size)
		binary.LittleEndian.PutUint32(e[8:], uint32(at/sector))
		binary.LittleEndian.PutUint32(e[12:], uint32(size/sector))
		at += size
	}
	copy(out[510:], "\x55\xaa")
	return out
}

// grubDir has the boot loader's modules for a BIOS, of package grub-pc-bin.
const grubDir = "/usr/lib/grub/i386-pc"

// parts makes what a disk is made of, in the directory work.
func (d *disk) parts(ctx context.Context, work string, r root, id string) (parts, error) {
	rootfs := filepath.Join(work, "rootfs")
	d.say(72, "Copying the root file system.")
	if _, err := d.run(ctx, "cp", "--archive", d.rootDir(r.Hash), rootfs); err != nil {
		return parts{}, fmt.Errorf("copy the root file system: %w", err)
	}
	d.say(75, "Taking the kernel out of the packages.")
	kernel, initrd, err := d.kernel(ctx, rootfs)
	if err != nil {
		return parts{}, err
	}
	if err := d.finishMachine(rootfs); err != nil {
		return parts{}, err
	}
	sign, err := signature(id)
	if err != nil {
		return parts{}, err
	}
	p := parts{root: filepath.Join(work, "root.squashfs")}
	if p.first, p.boot, err = d.loader(ctx, work, kernel, initrd, sign); err != nil {
		return parts{}, err
	}
	if !d.spec.WithoutData {
		d.say(78, "Initialising the database.")
		if p.golden, err = d.golden(ctx, work, rootfs); err != nil {
			return parts{}, err
		}
	}
	d.say(84, "Compressing the root file system.")
	return p, d.squash(ctx, rootfs, p.root)
}

// loader makes the first MiB and the boot partition.
func (d *disk) loader(ctx context.Context, work string, kernel, initrd []byte, sign uint32) (first, boot []byte, err error) {
	fail := func(err error) ([]byte, []byte, error) { return nil, nil, fmt.Errorf("make the boot loader: %w", err) }
	boot = make([]byte, (len(kernel)+sector-1)/sector*sector, len(kernel)+len(initrd)+alignment)
	copy(boot, kernel)
	kernelAt, initrdAt := alignment/sector, alignment/sector+len(boot)/sector
	boot = append(boot, initrd...)
	place := func(at, size int) string {
		return "(hd0)" + strconv.Itoa(at) + "+" + strconv.Itoa((size+sector-1)/sector)
	}
	script := fmt.Sprintf("linux %s %s trove.disk=%s\ninitrd %s\nboot\n",
		place(kernelAt, len(kernel)), d.machine.CommandLine, signatureText(sign), place(initrdAt, len(initrd)))
	file, core := filepath.Join(work, "grub.cfg"), filepath.Join(work, "core.img")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		return fail(err)
	}
	if _, err := d.run(ctx, "grub-mkimage", "--directory="+grubDir, "--format=i386-pc", "--prefix=/none", "--config="+file, "--output="+core,
		"biosdisk", "linux", "normal"); err != nil {
		return fail(err)
	}
	begin, err := os.ReadFile(filepath.Join(grubDir, "boot.img"))
	if err != nil {
		return fail(err)
	}
	rest, err := os.ReadFile(core)
	if err != nil {
		return fail(err)
	}
	first = make([]byte, alignment)
	if len(begin) != sector || sector+len(rest) > len(first) {
		return fail(fmt.Errorf("it has %d and %d bytes", len(begin), len(rest)))
	}
	// The loader's beginning reads its rest from the second sector on, unless it is told otherwise.
	copy(first, begin[:tableAt-6])
	copy(first[sector:], rest)
	binary.LittleEndian.PutUint32(first[tableAt-6:], sign)
	return first, boot, nil
}

// squash makes a file system of a tree, with one time for everything and owners as they are.
func (d *disk) squash(ctx context.Context, tree, to string) error {
	_, err := d.run(ctx, "mksquashfs", tree, to, "-comp", "zstd", "-Xcompression-level", "15", "-noappend", "-no-progress", "-quiet", "-no-exports",
		"-mkfs-time", "0", "-all-time", "0", "-xattrs")
	if err != nil {
		return fmt.Errorf("compress the root file system: %w", err)
	}
	return nil
}

// exportScript copies the initialised database out of a volume; see initialiseScript.
const exportScript = `set -eu
mount -t xfs -o loop,ro,norecovery,nouuid "$1" "$2"
cp --archive --sparse=always --no-target-directory "$2" "$3"
umount "$2"
`

// golden lets the agent make the database in the root, on a volume as a guest has it, and packs what is on it.
func (d *disk) golden(ctx context.Context, work, rootfs string) (string, error) {
	volume, at, tree, to := filepath.Join(work, "volume"), filepath.Join(work, "at"), filepath.Join(work, "golden"), filepath.Join(work, "golden.squashfs")
	if err := d.makeVolume(ctx, volume, d.recipe.GoldensMiB[0]); err != nil {
		return "", err
	}
	if err := d.initialise(ctx, volume, rootfs, filepath.Join(rootfs, "agent")); err != nil {
		return "", err
	}
	if err := os.Mkdir(at, 0o700); err != nil {
		return "", fmt.Errorf("pack the database: %w", err)
	}
	if err := d.apart(ctx, []string{"sh", "-c", exportScript, "pack", volume, at, tree}, volume); err != nil {
		return "", fmt.Errorf("pack the database: %w", err)
	}
	if err := trimTree(tree); err != nil {
		return "", fmt.Errorf("pack the database: %w", err)
	}
	return to, d.squash(ctx, tree, to)
}

// trimTree cuts the zeros off the end of large files and writes their sizes into a file of the tree. Logs are made at their full size and hold next to
// nothing: a guest would read hundreds of megabytes of zeros to find that out.
func trimTree(tree string) error {
	dir, err := os.OpenRoot(tree)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	sizes := map[string]int64{}
	err = fs.WalkDir(dir.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		size, err := trimFile(dir, name)
		if size > 0 {
			sizes[name] = size
		}
		return err
	})
	if err != nil {
		return err
	}
	data, err := json.Marshal(sizes)
	if err != nil {
		return err
	}
	return dir.WriteFile(imagelayout.GoldenSizes, data, 0o600)
}

// trimmed is how many zeros make it worth while.
const trimmed = 1 << 20

// trimFile returns the size that a file had if it was cut.
func trimFile(dir *os.Root, name string) (int64, error) {
	f, err := dir.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() < trimmed {
		return 0, err
	}
	buf, end := make([]byte, 64<<10), int64(0)
	for at := int64(0); at < info.Size(); at += int64(len(buf)) {
		n, err := f.ReadAt(buf, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if kept := len(bytes.TrimRight(buf[:n], "\x00")); kept > 0 {
			end = at + int64(kept)
		}
	}
	if info.Size()-end < trimmed {
		return 0, nil
	}
	return info.Size(), f.Truncate(end)
}
