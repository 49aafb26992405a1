package mysqlfamily

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/internal/guestfiles"
)

var _ engine.Adopter = (*Engine)(nil)

// What a Python Trove has on the volume: the data directory, and files with the passwords of its own accounts, which Prepare removes.
const (
	troveData      = "data"
	trovePasswords = "conf.d"
	troveAdmin     = "os_admin"
)

// Adopt implements engine.Adopter. The directory gets its name last: files that belong to the other Trove's account are given to ours before.
func (e *Engine) Adopt(ctx context.Context, l engine.Layout) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.Place(l)
	from := filepath.Join(l.Data, troveData)
	done, err := e.Initialised(l)
	if err != nil {
		return err
	}
	if !done {
		for _, each := range []string{"ibdata1", "mysql"} {
			there, err := guestfiles.Exists(filepath.Join(from, each))
			if err != nil {
				return err
			}
			if !there {
				return trove.Errorf(trove.KindNotFound, "There is no data directory of another Trove on the volume: %s/%s is missing.", troveData, each)
			}
		}
		if err := give(ctx, from, p.UID, p.GID); err != nil {
			return fmt.Errorf("take over the data directory: %w", err)
		}
		if err := os.Chmod(from, 0o700); err != nil { //nolint:gosec // a directory
			return fmt.Errorf("take over the data directory: %w", err)
		}
		if err := os.Rename(from, p.DataDir()); err != nil {
			return fmt.Errorf("take over the data directory: %w", err)
		}
	}
	if err := os.Lchown(l.Data, os.Geteuid(), os.Getegid()); err != nil { // the other Trove gives the whole volume to its account
		return fmt.Errorf("take over the volume: %w", err)
	}
	if err := os.RemoveAll(filepath.Join(l.Data, trovePasswords)); err != nil {
		return fmt.Errorf("remove the passwords of the other Trove: %w", err)
	}
	return nil
}

// give gives a tree to an account. It follows no symbolic link.
func give(ctx context.Context, dir string, uid, gid int) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	return fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, ctx.Err(), root.Lchown(path, uid, gid))
	})
}
