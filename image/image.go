// Package image builds datastore images: a root file system from the distribution's packages, the guest agent, and golden data volumes with an
// initialised, empty database, laid out as package imagelayout says.
//
// A recipe says what goes into an image and a lock file which versions it was last seen with; both are data in this package's folders. An image's id
// follows from its content, so building what is there takes milliseconds, and what is half-made is never seen: the manifest comes last. Builds of one
// directory wait for each other. Build needs root, since it mounts file systems; List and Remove need the rights to the directory only.
package image

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/internal/agentrelease"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/imagelayout"
)

// BuildSpec says what to build and where.
type BuildSpec struct {
	Datastore string
	Version   string
	ImagesDir string // the images, one directory for each
	CacheDir  string // root file systems that images are made from; may be deleted while nothing is built
	// AgentBinary is the guest agent that goes into the image, a static binary. Its initialise command makes the golden volumes.
	AgentBinary string
	// AgentKeys are the public keys, PEM, of those who sign releases of the agent: only what they signed will run in the image's guests beside
	// AgentBinary. nil: nothing will.
	AgentKeys []byte
	// Engine returns the facts about the driver that the recipe names; they become data of the datastore version.
	Engine func(manager string) (engine.Info, error)
	// Refresh looks into the archive again, where a root file system for this recipe and lock is in the cache.
	Refresh bool
	// UpdateLock is a file to write the lock to: what the archive had. It implies Refresh. "": the lock stays, and differences are reported.
	UpdateLock string
	// AptDir is the machine's own apt configuration; "": /etc/apt.
	AptDir   string
	Progress func(Event) // may be nil; called from one goroutine at a time
	Log      *slog.Logger
	Clock    clock.Clock // nil: the machine's
}

// Event is a sign of life of a build.
type Event struct {
	Sentence string // what is being done, or what the operator should know
	Percent  int    // of the whole build, estimated
	Elapsed  time.Duration
}

// Recipe names an image that can be built.
type Recipe struct{ Datastore, Version, Manager, Suite string }

// Recipes returns what can be built, ordered by datastore and version.
func Recipes() ([]Recipe, error) {
	all, err := loadRecipes()
	if err != nil {
		return nil, err
	}
	out := make([]Recipe, 0, len(all))
	for _, r := range all {
		out = append(out, Recipe{r.Datastore, r.Version, r.Manager, r.Suite})
	}
	slices.SortFunc(out, func(a, b Recipe) int {
		return cmp.Or(cmp.Compare(a.Datastore, b.Datastore), cmp.Compare(a.Version, b.Version))
	})
	return out, nil
}

// List returns the whole images, ordered by datastore, version and id. A directory that is missing is an empty list.
func List(imagesDir string) ([]imagelayout.Manifest, error) {
	all, err := imagelayout.List(imagesDir)
	slices.SortFunc(all, func(a, b imagelayout.Manifest) int {
		return cmp.Or(cmp.Compare(a.Datastore, b.Datastore), cmp.Compare(a.Version, b.Version), cmp.Compare(a.ID, b.ID))
	})
	return all, err
}

// Remove deletes an image. The caller sees to it that no instance uses it: their root is this directory. An image that is not there is NotFound.
func Remove(imagesDir, id string) error {
	if _, err := imagelayout.Read(imagesDir, id); err != nil {
		return err
	}
	dir := imagelayout.Dir(imagesDir, id)
	gone := filepath.Join(imagesDir, halfMade+id) // it vanishes at once; a crash in the middle is cleared by the next build
	if err := os.Rename(dir, gone); err != nil {
		return fmt.Errorf("remove image %s: %w", id, err)
	}
	if err := os.RemoveAll(gone); err != nil {
		return fmt.Errorf("remove image %s: %w", id, err)
	}
	return nil
}

// halfMade begins the names of directories that are being made or deleted.
const halfMade = ".tmp-"

// Build makes the image, or finds it. It may be repeated and run by several processes at once. When the context ends, everything that was mounted
// is gone before Build returns. Errors with a kind are sentences for the operator.
func Build(ctx context.Context, spec BuildSpec) (imagelayout.Manifest, error) {
	b, err := newBuild(spec)
	if err != nil {
		return imagelayout.Manifest{}, err
	}
	if m, err := b.find(); err != nil || m != nil {
		return deref(m), err
	}
	if err := b.check(); err != nil {
		return imagelayout.Manifest{}, err
	}
	unlock, err := b.lock(ctx)
	if err != nil {
		return imagelayout.Manifest{}, err
	}
	defer unlock()
	if m, err := b.find(); err != nil || m != nil { // another build may have made it meanwhile
		return deref(m), err
	}
	m, err := b.make(ctx)
	if err != nil {
		return imagelayout.Manifest{}, b.explain(err)
	}
	b.say(100, "The image %s is ready.", m.ID)
	return m, nil
}

func deref(m *imagelayout.Manifest) imagelayout.Manifest {
	if m == nil {
		return imagelayout.Manifest{}
	}
	return *m
}

// newBase fills in what a specification leaves out and loads the recipe: all that a root file system needs.
func newBase(spec BuildSpec) (*build, error) {
	r, l, err := loadRecipe(spec.Datastore, spec.Version)
	if err != nil {
		return nil, err
	}
	if spec.Clock == nil {
		spec.Clock = clock.System{}
	}
	if spec.Log == nil {
		spec.Log = slog.New(slog.DiscardHandler)
	}
	if spec.Progress == nil {
		spec.Progress = func(Event) {}
	}
	spec.AptDir = cmp.Or(spec.AptDir, "/etc/apt")
	spec.Refresh = spec.Refresh || spec.UpdateLock != ""
	for _, dir := range []*string{&spec.ImagesDir, &spec.CacheDir} {
		if *dir == "" {
			continue
		}
		if *dir, err = filepath.Abs(*dir); err != nil {
			return nil, fmt.Errorf("find the directory: %w", err)
		}
	}
	return &build{spec: spec, recipe: r, locked: l, needs: tools, begun: spec.Clock.Now()}, nil
}

// newBuild checks the specification of an image.
func newBuild(spec BuildSpec) (*build, error) {
	b, err := newBase(spec)
	if err != nil {
		return nil, err
	}
	if b.info, err = spec.Engine(b.recipe.Manager); err != nil {
		return nil, fmt.Errorf("ask for the facts about engine %s: %w", b.recipe.Manager, err)
	}
	if b.agent, err = hashFile(spec.AgentBinary); err != nil {
		return nil, trove.Wrap(trove.KindBadRequest, err, "The guest agent's binary %s cannot be read; build it first.", spec.AgentBinary)
	}
	if spec.AgentKeys != nil {
		if _, err := agentrelease.ParseKeys(spec.AgentKeys); err != nil {
			return nil, err
		}
	}
	return b, nil
}
