package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Copy copies an image file with its holes, sharing blocks where the file system can, and sees it to the disk: a loop device would otherwise have to flush it while somebody waits.
// The target must not exist; when an error is returned it does not.
func Copy(ctx context.Context, source, target string) (err error) {
	from, err := os.Open(source)
	if err != nil {
		return fmt.Errorf("copy a volume: %w", err)
	}
	defer from.Close()
	to, err := os.OpenFile(target, os.O_CREATE|os.O_RDWR|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("copy a volume: %w", err)
	}
	defer func() {
		to.Close()
		if err != nil {
			_ = os.Remove(target)
			err = fmt.Errorf("copy volume %s: %w", source, err)
		}
	}()
	if unix.IoctlFileClone(int(to.Fd()), int(from.Fd())) == nil {
		return to.Sync()
	}
	if err := copySparse(ctx, from, to); err != nil {
		return err
	}
	return to.Sync()
}

// copySparse copies the data between the holes.
func copySparse(ctx context.Context, from, to *os.File) error {
	info, err := from.Stat()
	if err != nil {
		return err
	}
	if err := to.Truncate(info.Size()); err != nil {
		return err
	}
	for at := int64(0); at < info.Size(); {
		start, err := from.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // only a hole follows
		}
		if err != nil {
			return err
		}
		end, err := from.Seek(start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if err := copyRange(ctx, from, to, start, end); err != nil {
			return err
		}
		at = end
	}
	return nil
}

// copyRange copies in pieces, so that a long copy can be broken off.
func copyRange(ctx context.Context, from, to *os.File, start, end int64) error {
	const piece = 16 << 20
	for start < end {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		length := min(end-start, piece)
		in, out := start, start
		n, err := unix.CopyFileRange(int(from.Fd()), &in, int(to.Fd()), &out, int(length), 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EXDEV), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL):
			// Between two file systems, or one that cannot.
			copied, err := io.Copy(io.NewOffsetWriter(to, start), io.NewSectionReader(from, start, length))
			if err != nil {
				return err
			}
			n = int(copied)
		case err != nil:
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF // the golden file was cut while it was read
		}
		start += int64(n)
	}
	return nil
}
