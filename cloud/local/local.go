// Package local is the cloud on this machine: instances are sandboxes made by runc, their volumes image files on loop devices, their network
// bridges and packet filters of the host (package hostnet).
//
// Everything belongs to a state directory and is found again by it and the instance's id, also by another process after a crash or by the
// first one after the machine was restarted: what a killed call left half-made is finished by the same call or removed by its Remove. Two deployments
// with different state directories share nothing, not even user ids. It needs root; Probe says in sentences what else is missing.
//
//	<state>/instances/<id>/   volume.json, volume.img, machine.json, console.log: what must outlive a restart of the machine
//	<state>/shelf/            finished copies of golden volumes
//	/run/trove-<hash>/        what is gone with a restart: mounts, bundles, the runtime's state, locks
//	/run/trove-ids/           which deployment's instance uses which range of user ids
//	cgroup /trove-<hash>/     the sandboxes' control groups
package local

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/cloud/local/cgroup"
	"github.com/trove-dbaas/trove/cloud/local/mounts"
	"github.com/trove-dbaas/trove/cloud/local/sandbox"
	"github.com/trove-dbaas/trove/cloud/local/volume"
	"github.com/trove-dbaas/trove/internal/clock"
)

// Config says where and how large the cloud is.
type Config struct {
	State   string         // directory of the deployment, made if missing
	Dir     string         // directory for the cloud's own files (instances, volumes, spares), made if missing; "": State
	Images  string         // directory of the datastore images, see internal/imagelayout
	Flavors []trove.Flavor // nil: DefaultFlavors
	// PoolGiB is how much all volumes may have together; 0: what the file system has free besides, less StopMark.
	PoolGiB int
	// Overcommit is by how much volumes may be larger together than the pool. At 1 or less every volume's space is reserved when it is made. Above,
	// space is taken as it is written and given back as it is freed; a full file system gives input/output errors to every instance.
	Overcommit float64
	// StopMark is the free space of the file system that volumes are never given: below it none is made or grown. The default is Headroom where space is
	// reserved; with overcommit it is a tenth of the file system, at most MaxStop.
	StopMark Mark
	// WarnMark is what is left for volumes when a warning is due; the default, and what a percentage is of, is a tenth of what may be promised.
	WarnMark Mark
	Spares   int // finished copies of each golden volume to hold ready; 0: DefaultSpares, less: none
	Net      Net
	Public   bool // Net has public addresses for instances
	Log      *slog.Logger
	Clock    clock.Clock
	Registry prometheus.Registerer // for metrics; nil: none
	Tend     time.Duration         // how often limits and reservations are looked at; 0: DefaultTend
	// Mended is told in a sentence what was found changed on an instance and put right: "limits" or "space". It may be nil.
	Mended func(ctx context.Context, instance, what, sentence string)
}

// Headroom is the space in bytes that reserved volumes never take from the file system: the controller's own database needs it.
const Headroom = 1 << 30

// DefaultSpares is enough for the rate at which one machine starts instances.
const DefaultSpares = 4

// DefaultFlavors are the sizes of instances unless the configuration has others.
func DefaultFlavors() []trove.Flavor {
	return []trove.Flavor{
		{ID: "1", Name: "db.tiny", RAM: 512, VCPUs: 1},
		{ID: "2", Name: "db.small", RAM: 2048, VCPUs: 1},
		{ID: "3", Name: "db.medium", RAM: 4096, VCPUs: 2},
		{ID: "4", Name: "db.large", RAM: 8192, VCPUs: 2},
	}
}

// Provider is the local cloud. Calls for different instances run side by side, calls for one instance one after another, those of other
// processes included.
type Provider struct {
	config  Config
	paths   paths
	runtime *sandbox.Runtime
	shelf   *volume.Shelf
	metrics *metrics

	mu      sync.Mutex // guards what follows
	spaces  map[string]*mounts.UserNS
	once    map[string]bool
	poolLow bool // was so when it was looked at last

	stop context.CancelFunc
	done sync.WaitGroup
}

var _ cloud.Provider = (*Provider)(nil)

// Open opens the cloud of the state directory, making what is missing of it. Close must be called; instances go on without it.
func Open(ctx context.Context, c Config) (*Provider, error) {
	state, err := filepath.Abs(c.State)
	if err != nil {
		return nil, fmt.Errorf("open the local cloud: %w", err)
	}
	// The name must be the same by whichever link the directory is reached.
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, fmt.Errorf("open the local cloud: %w", err)
	}
	if state, err = filepath.EvalSymlinks(state); err != nil {
		return nil, fmt.Errorf("open the local cloud: %w", err)
	}
	if len(c.Flavors) == 0 {
		c.Flavors = DefaultFlavors()
	}
	if c.Spares == 0 {
		c.Spares = DefaultSpares
	}
	c.Tend = cmp.Or(c.Tend, DefaultTend)
	c.Flavors = slices.Clone(c.Flavors)
	files, err := realDir(c.Dir, state)
	if err != nil {
		return nil, fmt.Errorf("open the local cloud: %w", err)
	}
	p := &Provider{config: c, paths: newPaths(state), spaces: map[string]*mounts.UserNS{}, once: map[string]bool{}}
	p.paths.files = files
	if err := p.paths.make(); err != nil {
		return nil, fmt.Errorf("open the local cloud: %w", err)
	}
	tree, err := cgroup.Open(cgroupRoot)
	if err != nil {
		return nil, fmt.Errorf("open the local cloud: %w", err)
	}
	p.runtime = &sandbox.Runtime{Dir: p.paths.runc(), Parent: "/" + p.paths.name, Groups: tree, Log: c.Log}
	p.shelf = volume.NewShelf(p.paths.shelf(), c.Spares)
	pool, err := p.Pool()
	if err != nil {
		return nil, fmt.Errorf("open the local cloud: %w", err)
	}
	p.watchPool(ctx, pool)
	p.metrics = newMetrics(p)
	if err := p.metrics.register(c.Registry); err != nil {
		return nil, fmt.Errorf("open the local cloud: %w", err)
	}
	p.start(ctx)
	return p, nil
}

// realDir makes a directory and returns its path without links: the kernel names files by it. Without one it returns the other.
func realDir(dir, otherwise string) (string, error) {
	if dir == "" {
		return otherwise, nil
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(dir)
}

const cgroupRoot = "/sys/fs/cgroup"

// start begins the work in the background: it lasts until Close, not until the caller's context ends.
func (p *Provider) start(ctx context.Context) {
	ctx, p.stop = context.WithCancel(context.WithoutCancel(ctx))
	p.done.Go(func() {
		p.shelf.Run(ctx, func(err error) { p.config.Log.WarnContext(ctx, "spare volumes were not made", "err", err) })
	})
	p.done.Go(func() { p.tendConsoles(ctx) })
	p.done.Go(func() { p.tendInstances(ctx) })
	p.done.Go(func() { p.watchLimits(ctx) })
}

// Close ends the work in the background and waits for it. Instances go on. It may be called twice.
func (p *Provider) Close() error {
	p.stop()
	p.done.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, ns := range p.spaces {
		_ = ns.Close()
		delete(p.spaces, id)
	}
	return nil
}

// freeSpace returns what the file system of a path has free and its size, in bytes.
func freeSpace(path string) (free, size int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, 0, fmt.Errorf("measure the free space of %s: %w", path, err)
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize, nil
}

// overcommit returns the factor, at least 1.
func (p *Provider) overcommit() float64 { return math.Max(1, p.config.Overcommit) }

// reserve reports whether volumes take their space when they are made.
func (p *Provider) reserve() bool { return p.overcommit() == 1 }

// warnOnce logs a warning the first time only.
func (p *Provider) warnOnce(ctx context.Context, msg string, args ...any) {
	p.mu.Lock()
	seen := p.once[msg]
	p.once[msg] = true
	p.mu.Unlock()
	if !seen {
		p.config.Log.WarnContext(ctx, msg, args...)
	}
}

// deploymentName returns the name under which everything of the state directory that is outside of it can be found.
func deploymentName(state string) string {
	sum := sha256.Sum256([]byte(state))
	return "trove-" + hex.EncodeToString(sum[:4])
}
