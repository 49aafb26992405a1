package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/internal/imagelayout"
)

// finish makes a guest's root of what the packages installed: the account, the mount points, nothing of the machine that built it, no secret and no
// program that raises its rights. Everything goes through an os.Root, so that a link in the tree cannot lead out of it.
func finish(dir string, r recipe) error {
	tree, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("finish the root file system: %w", err)
	}
	defer func() { _ = tree.Close() }()
	for _, step := range []func(*os.Root, recipe) error{removeFiles, emptyDirs, addAccount, writeFiles, dropRights} {
		if err := step(tree, r); err != nil {
			return fmt.Errorf("finish the root file system: %w", err)
		}
	}
	return nil
}

func removeFiles(tree *os.Root, r recipe) error {
	for _, pattern := range r.Remove {
		found, err := fs.Glob(tree.FS(), pattern)
		if err != nil {
			return err
		}
		for _, name := range found {
			if err := tree.RemoveAll(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// emptyDirs leaves the mount points empty and makes those that are missing. Device nodes of the builder are not for the guest.
func emptyDirs(tree *os.Root, _ recipe) error {
	if err := tree.Chmod(".", 0o755); err != nil { // whatever our umask is
		return err
	}
	for dir, perm := range map[string]fs.FileMode{
		"dev": 0o755, "proc": 0o755, "sys": 0o755, "run": 0o755, "tmp": 0o755, "root": 0o700,
		imagelayout.DataDir[1:]: 0o755, imagelayout.AgentDir[1:]: 0o755, imagelayout.BootDir[1:]: 0o755,
	} {
		if err := tree.RemoveAll(dir); err != nil {
			return err
		}
		if err := tree.Mkdir(dir, perm); err != nil {
			return err
		}
		if err := tree.Chmod(dir, perm); err != nil {
			return err
		}
	}
	return nil
}

func addAccount(tree *os.Root, r recipe) error {
	a := r.Account
	passwd, err := tree.ReadFile("etc/passwd")
	if err != nil {
		return err
	}
	if slices.ContainsFunc(strings.Split(string(passwd), "\n"), func(l string) bool { return strings.HasPrefix(l, a.Name+":") }) {
		return fmt.Errorf("the packages made an account %s of their own", a.Name)
	}
	group, err := tree.ReadFile("etc/group")
	if err != nil {
		return err
	}
	passwd = fmt.Appendf(passwd, "%s:x:%d:%d::%s:/usr/sbin/nologin\n", a.Name, a.UID, a.GID, a.Home)
	if err := tree.WriteFile("etc/passwd", passwd, 0o644); err != nil {
		return err
	}
	return tree.WriteFile("etc/group", fmt.Appendf(group, "%s:x:%d:\n", a.Name, a.GID), 0o644)
}

// writeFiles replaces what mmdebstrap copied from the machine, and what would tell copies of the image apart or join them.
func writeFiles(tree *os.Root, _ recipe) error {
	for name, text := range map[string]string{
		"etc/hosts":       "127.0.0.1 localhost\n::1 localhost\n", // mariadb-install-db asks for it
		"etc/hostname":    "localhost\n",
		"etc/machine-id":  "",
		"etc/resolv.conf": "",
	} {
		if err := tree.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) { // it may be a link
			return err
		}
		if err := tree.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
		if err := tree.Chmod(name, 0o644); err != nil {
			return err
		}
	}
	for _, name := range []string{"etc/shadow", "etc/shadow-", "etc/gshadow", "etc/gshadow-", "etc/passwd-", "etc/group-", "etc/ssh"} {
		if err := tree.RemoveAll(name); err != nil { // nobody logs in with a password
			return err
		}
	}
	return nil
}

// dropRights takes the set-user-id and set-group-id bits and file capabilities: nothing in a guest changes its user this way.
func dropRights(tree *os.Root, _ recipe) error {
	return fs.WalkDir(tree.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.Type().IsRegular() && !d.IsDir() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
			if err := tree.Chmod(name, info.Mode()&^(fs.ModeSetuid|fs.ModeSetgid)); err != nil {
				return err
			}
		}
		if d.IsDir() {
			return nil
		}
		err = unix.Lremovexattr(path.Join(tree.Name(), name), "security.capability")
		if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("drop the capabilities of %s: %w", name, err)
		}
		return nil
	})
}
