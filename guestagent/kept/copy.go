package kept

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// blocks returns how many bytes a tree takes on the disk.
func blocks(ctx context.Context, root string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the engine runs, and removes files now and then
		}
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			sum += st.Blocks * 512
		}
		return ctx.Err()
	})
	return sum, err
}

// copier copies trees with their owners and modes. It follows no link.
type copier struct {
	ctx    context.Context //nolint:containedctx // it lives as long as one call
	done   func(bytes int64)
	copied int64
}

func (c *copier) tree(from, to string) error {
	var dirs []string
	err := filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err == nil {
			err = c.ctx.Err()
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case e.IsDir():
			dirs = append(dirs, rel)
			return os.Mkdir(target, 0o700)
		case e.Type() == fs.ModeSymlink:
			return copyLink(path, target)
		case e.Type().IsRegular():
			return c.file(path, target)
		}
		return nil // sockets and pipes are made again at each start
	})
	for n := len(dirs) - 1; err == nil && n >= 0; n-- { // a directory that may not be written to gets its mode last
		err = likeness(filepath.Join(from, dirs[n]), filepath.Join(to, dirs[n]))
	}
	return err
}

func copyLink(from, to string) error {
	text, err := os.Readlink(from)
	if err != nil {
		return err
	}
	if err := os.Symlink(text, to); err != nil {
		return err
	}
	return likeness(from, to)
}

func (c *copier) file(from, to string) error {
	shared, err := clone(from, to)
	if err == nil && !shared {
		err = copyBytes(c.ctx, from, to)
	}
	if err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	if info, err := os.Lstat(to); err == nil {
		c.copied += info.Size()
		if c.done != nil {
			c.done(c.copied)
		}
	}
	return likeness(from, to)
}

// likeness gives a copy the owner, the mode and the times of its original.
func likeness(from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("look at %s: no owner", from)
	}
	if err := os.Lchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		return nil
	}
	if err := os.Chmod(to, info.Mode()); err != nil {
		return err
	}
	return os.Chtimes(to, info.ModTime(), info.ModTime())
}

// open opens both ends of a copy; to must not be there.
func open(from, to string) (in, out *os.File, err error) {
	if in, err = os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW, 0); err != nil {
		return nil, nil, err
	}
	if out, err = os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		_ = in.Close()
		return nil, nil, err
	}
	return in, out, nil
}

// clone makes a copy that shares its blocks; false, with nothing left, where the file system cannot.
func clone(from, to string) (shared bool, err error) {
	in, out, err := open(from, to)
	if err != nil {
		return false, err
	}
	defer func() { _ = in.Close() }()
	err = unix.IoctlFileClone(int(out.Fd()), int(in.Fd()))
	if closeErr := out.Close(); err == nil {
		return true, closeErr
	}
	if removeErr := os.Remove(to); removeErr != nil {
		return false, removeErr
	}
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EXDEV) || errors.Is(err, unix.ENOSYS) {
		return false, nil
	}
	return false, err
}

// piece is how much is copied between two looks at the context.
const piece = 16 << 20

// copyBytes copies what is written in a file and leaves its holes.
func copyBytes(ctx context.Context, from, to string) (err error) {
	in, out, err := open(from, to)
	if err != nil {
		return err
	}
	defer func() {
		_ = in.Close()
		if closeErr := out.Close(); err == nil {
			err = closeErr
		}
	}()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	for at := int64(0); at < info.Size(); {
		if at, err = in.Seek(at, unix.SEEK_DATA); errors.Is(err, unix.ENXIO) {
			break // holes up to the end
		} else if err != nil {
			return err
		}
		end, err := in.Seek(at, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		for at < end {
			if err := ctx.Err(); err != nil {
				return err
			}
			n := min(piece, end-at)
			if _, err := io.Copy(io.NewOffsetWriter(out, at), io.NewSectionReader(in, at, n)); err != nil {
				return err
			}
			at += n
		}
	}
	return out.Truncate(info.Size())
}
