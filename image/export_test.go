package image

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// For the tests in package image_test.
var (
	ParseRecipe = parseRecipe
	ParseLock   = parseLock
	AptSources  = aptSources
	Finish      = finish
	ImageID     = imageID
)

type (
	TestRecipe  = recipe
	TestAccount = account
	TestScript  = script
)

// DiffLock compares packages, given as name, version and hash, with a lock.
func DiffLock(locked, now [][3]string) ([]string, error) {
	list := func(in [][3]string) (out []pkg) {
		for _, p := range in {
			out = append(out, pkg{Name: p[0], Version: p[1], SHA256: p[2], Architecture: "amd64"})
		}
		return out
	}
	return lock{Packages: list(locked)}.diff(list(now))
}

// PackageNames returns the names, versions and hashes that parsePackages reads.
func PackageNames(text string) ([][3]string, error) {
	all, err := parsePackages([]byte(text))
	var out [][3]string
	for _, p := range all {
		out = append(out, [3]string{p.Name, p.Version, p.SHA256})
	}
	return out, err
}

// EveryRecipe returns the recipes with the number of packages in their locks.
func EveryRecipe() (map[string]int, error) {
	all, err := loadRecipes()
	if err != nil {
		return nil, err
	}
	out := map[string]int{}
	for _, r := range all {
		_, l, err := loadRecipe(r.Datastore, r.Version)
		if err != nil {
			return nil, err
		}
		out[r.Datastore+"-"+r.Version] = len(l.Packages)
	}
	return out, nil
}

// SeedRoot puts a root file system into the cache, as if the recipe had been made before.
func SeedRoot(spec BuildSpec, dir string) error {
	b, err := newBuild(spec)
	if err != nil {
		return err
	}
	hash, err := hashOf("seeded")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(b.rootDir(hash)), 0o750); err != nil {
		return err
	}
	if err := os.Rename(dir, b.rootDir(hash)); err != nil {
		return err
	}
	return b.keepRoot(root{Hash: hash, Packages: []pkg{{Name: b.recipe.EnginePackage, Version: "1:10.11.99-0+deb12u1"}}, Changes: []string{"a is 2 in place of 1"}})
}

// Explain returns what an operator reads of an error of a build.
func Explain(err error) error {
	return (&build{spec: BuildSpec{ImagesDir: "IMAGES", CacheDir: "CACHE", AptDir: "APT"}}).explain(err)
}

// LearnLock returns the machine's lock after a build, given as DiffLock's packages, and what the build itself says of the difference.
func LearnLock(own, machine, now [][3]string) (written [][3]string, changes []string, err error) {
	list := func(in [][3]string) (l lock) {
		for _, p := range in {
			l.Packages = append(l.Packages, pkg{Name: p[0], Version: p[1], SHA256: p[2]})
		}
		return l
	}
	changes, err = list(own).with(list(machine)).diff(list(now).Packages)
	for _, p := range list(machine).learn(list(own), list(now).Packages).Packages {
		written = append(written, [3]string{p.Name, p.Version, p.SHA256})
	}
	return written, changes, err
}

// JoinDisk joins parts to a disk in a file.
func JoinDisk(first, boot []byte, root, golden, to string) (sum string, size int64, err error) {
	return parts{first: first, boot: boot, root: root, golden: golden}.join(to)
}

// Cpio makes an archive of directories and files.
func Cpio(dirs []string, files map[string]string) []byte {
	var a cpio
	for _, d := range dirs {
		a.dir(d)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		a.file(name, []byte(files[name]), 0o755)
	}
	return a.end()
}

// KeepModules removes a tree's modules but the named ones with what they need, and returns these in the order of loading.
func KeepModules(rootfs string, names []string, optional bool) ([]string, error) {
	m, err := readModules(rootfs)
	if err != nil {
		return nil, err
	}
	files, err := m.closure(names, optional)
	if err != nil {
		return nil, err
	}
	return files, m.prune(files)
}

// FinishMachine makes a machine's root of a tree, with an agent and keys of people.
func FinishMachine(dir, agent string, sshKeys []byte) error {
	d := &disk{build: &build{spec: BuildSpec{AgentBinary: agent}}, spec: DiskSpec{SSHKeys: sshKeys}}
	var err error
	if d.agent, err = hashFile(agent); err != nil {
		return err
	}
	if err := d.addMachine(); err != nil {
		return err
	}
	return d.finishMachine(dir)
}

// MachineLocks returns the number of packages in each lock of the machine's packages, by suite.
func MachineLocks() (map[string]int, error) {
	entries, err := machineFiles.ReadDir("locks/machine")
	if err != nil {
		return nil, err
	}
	all := map[string]int{}
	for _, e := range entries {
		data, err := machineFiles.ReadFile("locks/machine/" + e.Name())
		if err != nil {
			return nil, err
		}
		l, err := parseLock(data)
		if err != nil {
			return nil, err
		}
		all[l.Suite] = len(l.Packages)
	}
	return all, nil
}

// TrimTree cuts zeros off the files of a tree.
var TrimTree = trimTree
