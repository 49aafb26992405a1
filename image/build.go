package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/internal/atomicfile"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/imagelayout"
)

// build is one run of Build.
type build struct {
	spec   BuildSpec
	recipe recipe
	locked lock
	info   engine.Info
	agent  string // hash of the binary
	begun  time.Time
	relock func([]pkg) (written, whole lock) // what is written as the lock, and what the next build makes of it; nil: both are all packages
	needs  []tool
	held   []*os.File // the locks; children get them too, so that a build that outlives us still holds them
}

// root is a root file system in the cache: roots/<hash>/rootfs, described by index/<key>.json.
type root struct {
	Hash     string   `json:"hash"`
	Packages []pkg    `json:"packages"`
	Changes  []string `json:"changes,omitempty"` // against the lock
}

func (b *build) say(percent int, format string, args ...any) {
	b.spec.Progress(Event{Sentence: fmt.Sprintf(format, args...), Percent: percent, Elapsed: b.spec.Clock.Now().Sub(b.begun)})
}

func (b *build) rootDir(hash string) string { return filepath.Join(b.spec.CacheDir, "roots", hash) }

// indexFile leads from what is known without the archive to the root file system that was made of it.
func (b *build) indexFile() (string, error) {
	key, err := hashOf(rootFormat, b.recipe, b.locked)
	return filepath.Join(b.spec.CacheDir, "index", key+".json"), err
}

func (b *build) cachedRoot() (*root, error) {
	file, err := b.indexFile()
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil //nolint:nilnil // none is an ordinary answer
	}
	if err != nil {
		return nil, fmt.Errorf("look into the cache: %w", err)
	}
	var r root
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("look into the cache: %s: %w", file, err)
	}
	return &r, nil
}

func (b *build) keepRoot(r root) error {
	file, err := b.indexFile()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return fmt.Errorf("write into the cache: %w", err)
	}
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write into the cache: %w", err)
	}
	return atomicfile.Write(file, data, 0o644)
}

func (b *build) id(r root) (string, error) {
	parts := []any{goldenFormat, r.Hash, b.agent, b.info}
	if b.spec.AgentKeys != nil {
		parts = append(parts, b.keysHash())
	}
	hash, err := hashOf(parts...)
	if err != nil {
		return "", err
	}
	return imageID(hash)
}

// keysHash is the SHA-256 of the keys' file, "" without keys.
func (b *build) keysHash() string {
	if b.spec.AgentKeys == nil {
		return ""
	}
	sum := sha256.Sum256(b.spec.AgentKeys)
	return hex.EncodeToString(sum[:])
}

// find returns the image if it is there whole.
func (b *build) find() (*imagelayout.Manifest, error) {
	if b.spec.Refresh {
		return nil, nil //nolint:nilnil // the archive decides
	}
	r, err := b.cachedRoot()
	if err != nil || r == nil {
		return nil, err
	}
	m, err := b.read(*r)
	if m != nil {
		b.say(100, "The image %s is there already.", m.ID)
	}
	return m, err
}

func (b *build) read(r root) (*imagelayout.Manifest, error) {
	id, err := b.id(r)
	if err != nil {
		return nil, err
	}
	m, err := imagelayout.Read(b.spec.ImagesDir, id)
	if trove.IsNotFound(err) {
		return nil, nil //nolint:nilnil // none is an ordinary answer
	}
	return &m, err
}

// tool is a program with the package that has it.
type tool struct{ program, pkg string }

// tools are the programs that a build runs, with the package that has each.
var tools = []tool{
	{"mmdebstrap", "mmdebstrap"},
	{"apt-config", "apt"},
	{"dpkg-query", "dpkg"},
	{"mkfs.xfs", "xfsprogs"},
	{"unshare", "util-linux"},
	{"fstrim", "util-linux"},
	{"mount", "mount"},
	{"chroot", "coreutils"},
	{"cp", "coreutils"},
}

// check names what is missing before anything is made.
func (b *build) check() error {
	if os.Geteuid() != 0 {
		return trove.Errorf(trove.KindForbidden, "Building an image needs root, since file systems are mounted for it. Run it as root.")
	}
	var missing []string
	for _, t := range b.needs {
		if _, err := exec.LookPath(t.program); err != nil {
			missing = append(missing, fmt.Sprintf("%s (package %s)", t.program, t.pkg))
		}
	}
	if len(missing) > 0 {
		return trove.Errorf(trove.KindUnavailable, "Building an image needs programs that are not installed: %s.", strings.Join(missing, ", "))
	}
	for _, dir := range b.dirs() {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return fmt.Errorf("make the directory of images: %w", err)
		}
		var fs unix.Statfs_t
		if err := unix.Statfs(dir, &fs); err != nil {
			return fmt.Errorf("look for space in %s: %w", dir, err)
		}
		if free := int64(fs.Bavail) * fs.Bsize >> 20; free < int64(b.recipe.DiskMiB) {
			return trove.Errorf(trove.KindUnavailable, "Building the image needs %d MiB of free space in %s; there are %d MiB.", b.recipe.DiskMiB, dir, free)
		}
	}
	return nil
}

// dirs are where this build writes: a root file system alone needs no images.
func (b *build) dirs() []string {
	if b.spec.ImagesDir == "" {
		return []string{b.spec.CacheDir}
	}
	return []string{b.spec.CacheDir, b.spec.ImagesDir}
}

func (b *build) locks() []string {
	files := []string{filepath.Join(b.spec.CacheDir, ".cache.lock")}
	if b.spec.ImagesDir != "" {
		files = append(files, filepath.Join(b.spec.ImagesDir, ".images.lock"))
	}
	return files
}

// lock waits until no other build works on these directories.
func (b *build) lock(ctx context.Context) (unlock func(), err error) {
	unlock = func() {
		for _, f := range b.held {
			f.Close()
		}
	}
	for _, file := range b.locks() {
		f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			unlock()
			return nil, fmt.Errorf("lock: %w", err)
		}
		b.held = append(b.held, f)
		for said := false; ; said = true {
			err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
			if err == nil {
				break
			}
			if !said && errors.Is(err, unix.EWOULDBLOCK) {
				b.say(0, "Another build is running; waiting for it to end.")
			}
			if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
				err = clock.Sleep(ctx, 200*time.Millisecond)
			}
			if err != nil {
				unlock()
				return nil, fmt.Errorf("wait for another build to end: %w", err)
			}
		}
	}
	return unlock, nil
}

// clear removes what killed builds left. The caller holds the locks.
func (b *build) clear() error {
	var old []string
	for _, dir := range append(b.dirs(), filepath.Join(b.spec.CacheDir, "roots")) {
		found, err := filepath.Glob(filepath.Join(dir, halfMade+"*"))
		if err != nil {
			return fmt.Errorf("look for half-made images: %w", err)
		}
		old = append(old, found...)
	}
	for _, dir := range old {
		b.spec.Log.Info("half-made image removed", "dir", dir)
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove a half-made image: %w", err)
		}
	}
	return nil
}

// make builds the image.
func (b *build) make(ctx context.Context) (imagelayout.Manifest, error) {
	var none imagelayout.Manifest
	if err := b.clear(); err != nil {
		return none, err
	}
	r, err := b.ensureRoot(ctx)
	if err != nil {
		return none, err
	}
	if m, err := b.read(r); err != nil || m != nil { // the archive had nothing new
		return deref(m), err
	}
	id, err := b.id(r)
	if err != nil {
		return none, err
	}
	work := filepath.Join(b.spec.ImagesDir, halfMade+id)
	if err := b.assemble(ctx, work, r); err != nil {
		return none, errors.Join(err, os.RemoveAll(work))
	}
	m := imagelayout.Manifest{
		ID: id, Datastore: b.recipe.Datastore, Version: b.recipe.Version, Manager: b.recipe.Manager, EngineVersion: b.engineVersion(r),
		Capabilities: b.info.Capabilities, EngineUID: b.recipe.Account.UID, EngineGID: b.recipe.Account.GID, RootSHA256: r.Hash, AgentSHA256: b.agent,
		AgentKeys: b.keysHash(),
	}
	for _, size := range b.recipe.GoldensMiB {
		m.Goldens = append(m.Goldens, imagelayout.Golden{File: goldenFile(size), SizeMiB: size})
	}
	dir := imagelayout.Dir(b.spec.ImagesDir, id)
	if err := os.RemoveAll(dir); err != nil { // without a manifest, or read had found it
		return none, fmt.Errorf("name the image: %w", err)
	}
	if err := os.Rename(work, dir); err != nil {
		return none, fmt.Errorf("name the image: %w", err)
	}
	return m, imagelayout.Write(b.spec.ImagesDir, m)
}

// packageVersion is the version of the engine's package, "" if it is not there.
func (b *build) packageVersion(r root) string {
	for _, p := range r.Packages {
		if p.Name == b.recipe.EnginePackage {
			return p.Version
		}
	}
	return ""
}

// repacked is what a distribution adds to the version of a source that it left files out of: "11.8.9+ds", "8.1.1+dfsg1".
var repacked = regexp.MustCompile(`[+~](ds|dfsg)[0-9.]*$`)

// engineVersion is the package's version without the distribution's parts: "1:10.11.19-0+deb12u1" is 10.11.19.
func (b *build) engineVersion(r root) string {
	v := b.packageVersion(r)
	if v == "" {
		return b.recipe.Version
	}
	if _, rest, found := strings.Cut(v, ":"); found {
		v = rest
	}
	if i := strings.LastIndex(v, "-"); i > 0 {
		v = v[:i]
	}
	return repacked.ReplaceAllString(v, "")
}

// explain turns what programs say into a sentence for the operator where the cause is known.
func (b *build) explain(err error) error {
	if _, ok := errors.AsType[*trove.Error](err); ok {
		return err
	}
	text := err.Error()
	has := func(signs ...string) bool {
		for _, s := range signs {
			if strings.Contains(text, s) {
				return true
			}
		}
		return false
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return trove.Wrap(trove.KindUnavailable, err, "The build was ended before it was done; nothing half-made was kept.")
	case errors.Is(err, syscall.ENOSPC), has("No space left on device"):
		return trove.Wrap(trove.KindUnavailable, err, "The disk is full: %s or %s has no space left. Nothing half-made was kept.", b.spec.ImagesDir, b.spec.CacheDir)
	case has("Could not resolve", "Temporary failure resolving", "Could not connect", "Unable to connect", "Connection refused", "Connection timed out",
		"Connection failed", "Network is unreachable"):
		return trove.Wrap(trove.KindUnavailable, err, "The package archive cannot be reached. Check the network and the sources in %s, then build again.", b.spec.AptDir)
	case has("NO_PUBKEY", "is not signed", "The following signatures couldn't be verified"):
		return trove.Wrap(trove.KindUnavailable, err, "The package archive's signature cannot be checked. Install the archive's keyring (package debian-archive-keyring).")
	case has("is expired (invalid since"):
		return trove.Wrap(trove.KindUnavailable, err, "The package archive's lists have expired: a mirror that is not brought up to date, or this machine's clock.")
	case has("unmet dependencies", "Unable to correct problems", "unsatisfied dependencies"):
		return trove.Wrap(trove.KindUnavailable, err, "The package archive's packages do not fit together at present, as happens in an unstable suite. Build again later.")
	case has("Unable to locate package", "Failed to fetch", "Unable to fetch", "404  Not Found"):
		return trove.Wrap(trove.KindUnavailable, err, "The package archive does not have what the image needs. Check the sources in %s, then build again.", b.spec.AptDir)
	case has("unknown filesystem type 'xfs'"):
		return trove.Wrap(trove.KindUnavailable, err, "This machine's kernel has no xfs, which data volumes are made of. Load its module (modprobe xfs).")
	case has("failed to setup loop device", "cannot find an unused loop device"):
		return trove.Wrap(trove.KindUnavailable, err, "No loop device can be set up on this machine, which data volumes need. Load the module (modprobe loop) or allow them.")
	}
	return err
}
