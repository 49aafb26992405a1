package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
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
	for _, step := range []func(*os.Root, recipe) error{removeFiles, emptyDirs, appendTexts, writePrograms, addAccount, writeFiles, dropRights} {
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

// addAccount makes the engine's account. One that the packages made gets the recipe's numbers: theirs depend on the order of their installation.
func addAccount(tree *os.Root, r recipe) error {
	a := r.Account
	for name, line := range map[string]string{
		"etc/passwd": fmt.Sprintf("%s:x:%d:%d::%s:/usr/sbin/nologin\n", a.Name, a.UID, a.GID, a.Home), "etc/group": fmt.Sprintf("%s:x:%d:\n", a.Name, a.GID),
	} {
		data, err := tree.ReadFile(name)
		if err != nil {
			return err
		}
		var kept strings.Builder
		for each := range strings.Lines(string(data)) {
			fields := strings.Split(each, ":")
			switch {
			case fields[0] != a.Name:
				kept.WriteString(each)
			case len(fields) > 2 && fields[2] == "0":
				return fmt.Errorf("the account %s has all rights", a.Name)
			}
		}
		kept.WriteString(line)
		if err := tree.WriteFile(name, []byte(kept.String()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// appendTexts adds what the recipe adds to files of packages.
func appendTexts(tree *os.Root, r recipe) error {
	for name, text := range r.Append {
		f, err := tree.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(text)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// makeDirs makes a directory, and what is missing of the way to it, for all to pass through, whatever our umask is.
func makeDirs(tree *os.Root, dir string) error {
	if _, err := tree.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := makeDirs(tree, path.Dir(dir)); err != nil {
		return err
	}
	if err := tree.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return tree.Chmod(dir, 0o755)
}

// writePrograms writes the recipe's scripts.
func writePrograms(tree *os.Root, r recipe) error {
	for _, s := range r.Programs {
		for _, name := range s.Paths {
			if err := makeDirs(tree, path.Dir(name)); err != nil {
				return err
			}
			if err := tree.WriteFile(name, []byte(strings.Join(s.Lines, "\n")+"\n"), 0o755); err != nil {
				return err
			}
			if err := tree.Chmod(name, 0o755); err != nil { // whatever our umask is
				return err
			}
		}
	}
	return nil
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
