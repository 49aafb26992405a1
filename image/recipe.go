package image

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/atomicfile"
)

//go:embed recipes/*.json locks/*.json
var files embed.FS

// rootFormat changes when this package makes another root file system of the same recipe; goldenFormat likewise for the golden volumes.
const (
	rootFormat   = 1
	goldenFormat = 1
)

// recipe is a file in the folder recipes.
type recipe struct {
	Datastore     string   `json:"datastore"`
	Version       string   `json:"version"`
	Manager       string   `json:"manager"`        // the engine driver
	Suite         string   `json:"suite"`          // of the distribution
	Packages      []string `json:"packages"`       // beside the essential ones
	EnginePackage string   `json:"engine_package"` // whose version is the engine's
	Account       account  `json:"account"`
	Remove        []string `json:"remove"` // patterns of path.Match below the root
	// Append adds text to files of packages, by path below the root: a control file of an extension, say. A file that is not there is an error.
	Append map[string]string `json:"append,omitempty"`
	// Programs are scripts that the image has beside those of packages: nothing in a guest can be run from where a guest can write.
	Programs   []script `json:"programs,omitempty"`
	GoldensMiB []int    `json:"goldens_mib"`
	DiskMiB    int      `json:"disk_mib"` // free space that a build needs
}

// script is a text that is there under each of its paths below the root.
type script struct {
	Paths []string `json:"paths"`
	Lines []string `json:"lines"`
}

// account is what the engine runs as.
type account struct {
	Name string `json:"name"`
	UID  int    `json:"uid"`
	GID  int    `json:"gid"`
	Home string `json:"home"`
}

// lock is a file in the folder locks: the packages that the recipe was last made of.
type lock struct {
	Suite    string `json:"suite"`
	Packages []pkg  `json:"packages"` // ordered by name

	extra map[string]bool // those that an image may have or not
}

// pkg is a package as the archive has it.
type pkg struct {
	Name         string `json:"name"`
	Version      string `json:"version"`
	Architecture string `json:"architecture"`
	SHA256       string `json:"sha256"`
}

var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]*$`)

func loadRecipes() ([]recipe, error) {
	entries, err := fs.ReadDir(files, "recipes")
	if err != nil {
		return nil, fmt.Errorf("list recipes: %w", err)
	}
	all := make([]recipe, 0, len(entries))
	for _, e := range entries {
		data, err := files.ReadFile(path.Join("recipes", e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read recipe %s: %w", e.Name(), err)
		}
		r, err := parseRecipe(data)
		if err != nil {
			return nil, fmt.Errorf("read recipe %s: %w", e.Name(), err)
		}
		all = append(all, r)
	}
	return all, nil
}

// loadRecipe finds a recipe and its lock; a recipe that was never built has an empty one.
func loadRecipe(datastore, version string) (recipe, lock, error) {
	all, err := loadRecipes()
	if err != nil {
		return recipe{}, lock{}, err
	}
	i := slices.IndexFunc(all, func(r recipe) bool { return r.Datastore == datastore && r.Version == version })
	if i < 0 {
		var known []string
		for _, r := range all {
			known = append(known, r.Datastore+" "+r.Version)
		}
		return recipe{}, lock{}, trove.Errorf(trove.KindNotFound, "There is no recipe for %s %s; there are: %q.", datastore, version, known)
	}
	data, err := files.ReadFile("locks/" + all[i].file())
	if errors.Is(err, fs.ErrNotExist) {
		return all[i], lock{Suite: all[i].Suite}, nil
	}
	if err != nil {
		return recipe{}, lock{}, fmt.Errorf("read the lock of %s: %w", all[i].file(), err)
	}
	l, err := parseLock(data)
	if err != nil {
		return recipe{}, lock{}, fmt.Errorf("read the lock of %s: %w", all[i].file(), err)
	}
	return all[i], l, nil
}

func (r recipe) file() string { return r.Datastore + "-" + r.Version + ".json" }

func parseRecipe(data []byte) (recipe, error) {
	var r recipe
	if err := strict(data, &r); err != nil {
		return r, err
	}
	for _, name := range append([]string{r.Datastore, r.Version, r.Manager, r.Suite, r.EnginePackage, r.Account.Name}, r.Packages...) {
		if !namePattern.MatchString(name) {
			return r, fmt.Errorf("%q is not a name", name)
		}
	}
	for _, p := range r.Remove {
		if _, err := path.Match(p, ""); err != nil || p != path.Clean(p) || path.IsAbs(p) || p == "." || len(p) > 1 && p[:2] == ".." {
			return r, fmt.Errorf("%q is not a pattern of paths below the root", p)
		}
	}
	names := slices.Collect(maps.Keys(r.Append))
	for _, s := range r.Programs {
		names = append(names, s.Paths...)
	}
	for _, name := range names {
		if !fs.ValidPath(name) || name == "." {
			return r, fmt.Errorf("%q is not a path below the root", name)
		}
	}
	switch {
	case !slices.Contains(r.Packages, r.EnginePackage):
		return r, errors.New("engine_package is not among the packages")
	case r.Account.UID <= 0 || r.Account.GID <= 0 || !path.IsAbs(r.Account.Home):
		return r, errors.New("the account needs a uid, a gid and a home")
	case len(r.GoldensMiB) == 0 || !slices.IsSorted(r.GoldensMiB) || r.GoldensMiB[0] < 512:
		return r, errors.New("goldens_mib must be ascending and at least 512")
	}
	return r, nil
}

func parseLock(data []byte) (lock, error) {
	var l lock
	if err := strict(data, &l); err != nil {
		return l, err
	}
	for _, p := range l.Packages {
		if sum, err := hex.DecodeString(p.SHA256); err != nil || len(sum) != sha256.Size || p.Name == "" || p.Version == "" {
			return l, fmt.Errorf("package %q has no version or no hash", p.Name)
		}
	}
	return l, nil
}

func writeLock(file string, l lock) error {
	data, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return fmt.Errorf("write the lock: %w", err)
	}
	return atomicfile.Write(file, append(data, '\n'), 0o644)
}

// diff compares what the archive had with the lock. Changes are sentences for the operator. The same version with another hash is not a change but an
// archive that must not be trusted.
func (l lock) diff(now []pkg) (changes []string, err error) {
	old := map[string]pkg{}
	for _, p := range l.Packages {
		old[p.key()] = p
	}
	for _, p := range now {
		o, there := old[p.key()]
		delete(old, p.key())
		switch {
		case !there:
			changes = append(changes, fmt.Sprintf("%s %s is new", p.Name, p.Version))
		case o.Version != p.Version:
			changes = append(changes, fmt.Sprintf("%s is %s in place of %s", p.Name, p.Version, o.Version))
		case o.SHA256 != p.SHA256:
			return nil, trove.Errorf(trove.KindUnprocessable, "The archive has another content under the same version of package %s (%s) than the lock says. "+
				"The image is not built: find out which of the two is right.", p.Name, p.Version)
		}
	}
	for _, p := range old {
		if l.extra[p.key()] {
			continue
		}
		changes = append(changes, fmt.Sprintf("%s %s is not needed any more", p.Name, p.Version))
	}
	slices.Sort(changes)
	return changes, nil
}

// hashOf is the SHA-256 of values' JSON, in hexadecimal.
func hashOf(values ...any) (string, error) {
	h := sha256.New()
	if err := json.NewEncoder(h).Encode(values); err != nil {
		return "", fmt.Errorf("hash: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func hashFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("hash %s: %w", name, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// imageID makes a UUID (version 8, RFC 9562) of a hash.
func imageID(hash string) (string, error) {
	raw, err := hex.DecodeString(hash)
	if err != nil || len(raw) < 16 {
		return "", fmt.Errorf("make an id of %q: not a hash", hash)
	}
	raw[6] = raw[6]&0x0f | 0x80
	raw[8] = raw[8]&0x3f | 0x80
	s := hex.EncodeToString(raw[:16])
	return s[0:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:], nil
}
