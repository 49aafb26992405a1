package image

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/trove-dbaas/trove/internal/execx"
)

// ensureRoot returns the root file system for the recipe, from the cache or made of the archive's packages.
func (b *build) ensureRoot(ctx context.Context) (root, error) {
	if r, err := b.cachedRoot(); err != nil {
		return root{}, err
	} else if r != nil && !b.spec.Refresh {
		if _, err := os.Stat(b.rootDir(r.Hash)); err == nil {
			b.say(70, "The root file system is in the cache.")
			b.sayChanges(r.Changes)
			return *r, nil
		}
	}
	if err := os.MkdirAll(filepath.Join(b.spec.CacheDir, "roots"), 0o750); err != nil {
		return root{}, fmt.Errorf("make the cache: %w", err)
	}
	work, err := os.MkdirTemp(filepath.Join(b.spec.CacheDir, "roots"), halfMade)
	if err != nil {
		return root{}, fmt.Errorf("make the cache: %w", err)
	}
	r, err := b.makeRoot(ctx, work)
	if removed := os.RemoveAll(work); err == nil {
		err = removed
	}
	return r, err
}

func (b *build) sayChanges(changes []string) {
	if len(changes) > 0 {
		b.say(70, "The archive has other versions than the lock file (%d): %s.", len(changes), strings.Join(changes, ", "))
	}
}

// makeRoot makes the root file system in work and moves it to its place in the cache.
func (b *build) makeRoot(ctx context.Context, work string) (root, error) {
	dir := filepath.Join(work, "rootfs")
	packages, err := b.bootstrap(ctx, work, dir)
	if err != nil {
		return root{}, err
	}
	changes, err := b.locked.diff(packages)
	if err != nil {
		return root{}, err
	}
	if b.spec.UpdateLock != "" {
		b.locked = lock{Suite: b.recipe.Suite, Packages: packages}
		written := b.locked
		if b.relock != nil {
			written, b.locked = b.relock(packages)
		}
		if err := writeLock(b.spec.UpdateLock, written); err != nil {
			return root{}, err
		}
		b.say(70, "The lock file was written (%d changes).", len(changes))
		changes = nil
	}
	b.sayChanges(changes)
	b.say(71, "Finishing the root file system.")
	if err := finish(dir, b.recipe); err != nil {
		return root{}, err
	}
	hash, err := hashOf(rootFormat, b.recipe, packages)
	if err != nil {
		return root{}, err
	}
	place := b.rootDir(hash)
	if err := os.RemoveAll(place); err != nil {
		return root{}, fmt.Errorf("keep the root file system: %w", err)
	}
	if err := os.Rename(dir, place); err != nil {
		return root{}, fmt.Errorf("keep the root file system: %w", err)
	}
	r := root{Hash: hash, Packages: packages, Changes: changes}
	return r, b.keepRoot(r)
}

// namespaces runs a program with mounts and processes of its own, which all end with it.
var namespaces = []string{"--mount", "--pid", "--fork", "--kill-child"}

// bootstrap runs mmdebstrap and returns what it installed.
func (b *build) bootstrap(ctx context.Context, work, dir string) ([]pkg, error) {
	sources, err := aptSources(b.spec.AptDir, b.recipe.Suite)
	if err != nil {
		return nil, err
	}
	machine, err := b.machineOptions(ctx)
	if err != nil {
		return nil, err
	}
	sourcesFile, aptFile, listFile := filepath.Join(work, "apt.sources"), filepath.Join(work, "apt.conf"), filepath.Join(work, "packages")
	options := "Acquire::Retries \"2\";\nAcquire::http::Timeout \"20\";\nAcquire::https::Timeout \"20\";\n" + machine
	for file, text := range map[string]string{sourcesFile: sources, aptFile: options} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return nil, fmt.Errorf("write the apt configuration: %w", err)
		}
	}
	b.say(0, "Reading the package archive.")
	watch := newPackageWatch(b)
	// Without a hook of ours apt's knowledge of hashes would be gone when mmdebstrap ends.
	hook := `APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-cache show $(dpkg-query --admindir="$1/var/lib/dpkg" -W -f '${Package}:${Architecture}=${Version} ') >"` + listFile + `"`
	_, err = execx.Run(ctx, execx.Cmd{
		Path: "unshare",
		Args: append(slices.Clone(namespaces), "mmdebstrap", "--verbose", "--mode=root", "--variant=essential", "--format=directory", "--skip=check/empty",
			"--include="+strings.Join(b.recipe.Packages, ","), "--aptopt="+aptFile, "--dpkgopt=path-exclude=/usr/share/doc/*",
			"--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*", "--customize-hook="+hook,
			b.recipe.Suite, dir, sourcesFile),
		Stdout: watch, Stderr: watch, ExtraFiles: b.held,
		Env: append(execx.MinimalEnv(), "TMPDIR="+work, "DEBIAN_FRONTEND=noninteractive"),
	})
	if err != nil {
		return nil, fmt.Errorf("install the packages: %w: %s", err, watch.evidence())
	}
	data, err := os.ReadFile(listFile)
	if err != nil {
		return nil, fmt.Errorf("read what was installed: %w", err)
	}
	return parsePackages(data)
}

// machineOptions returns the machine's proxies, and whether it takes a list of packages that has expired, in apt's own form. The file is ours alone: an
// address may hold a password.
func (b *build) machineOptions(ctx context.Context) (string, error) {
	if b.spec.AptDir != "/etc/apt" {
		return "", nil
	}
	out, err := execx.Run(ctx, execx.Cmd{Path: "apt-config", Args: []string{"dump", "--no-empty", "Acquire::http::Proxy", "Acquire::https::Proxy", "Acquire::Check-Valid-Until"}})
	if err != nil {
		return "", fmt.Errorf("read the apt configuration: %w", err)
	}
	return string(out), nil
}

// parsePackages reads apt-cache's description of packages.
func parsePackages(data []byte) ([]pkg, error) {
	var all []pkg
	var current pkg
	flush := func() error {
		if current == (pkg{}) {
			return nil
		}
		if current.Name == "" || current.Version == "" || current.SHA256 == "" {
			return fmt.Errorf("read what was installed: package %q has no version or no hash", current.Name)
		}
		all = append(all, current)
		current = pkg{}
		return nil
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "":
			if err := flush(); err != nil {
				return nil, err
			}
		case "Package":
			current.Name = value
		case "Version":
			current.Version = value
		case "Architecture":
			current.Architecture = value
		case "SHA256":
			current.SHA256 = value
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read what was installed: %w", err)
	}
	if err := flush(); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b pkg) int { return strings.Compare(a.Name+":"+a.Architecture, b.Name+":"+b.Architecture) })
	return slices.Compact(all), nil
}
