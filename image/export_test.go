package image

import (
	"os"
	"path/filepath"
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
