package image

import (
	"context"
	"log/slog"

	"github.com/trove-dbaas/trove/internal/clock"
)

// RootSpec says which root file system to make, and where.
type RootSpec struct {
	Datastore  string
	Version    string
	CacheDir   string
	Refresh    bool   // look into the archive again
	UpdateLock string // as in BuildSpec
	AptDir     string // "": /etc/apt
	Progress   func(Event)
	Log        *slog.Logger
	Clock      clock.Clock
}

// Root is a root file system in the cache: that of images, without agent and volumes. Nobody may change it.
type Root struct {
	Dir           string
	EngineVersion string   // without the distribution's parts
	Package       string   // the engine's package with its whole version
	Suite         string   // of the distribution
	Changes       []string // against the lock
}

// EnsureRoot makes a recipe's root file system in the cache, or finds it there, in the same way as Build.
func EnsureRoot(ctx context.Context, spec RootSpec) (Root, error) {
	b, err := newBase(BuildSpec{
		Datastore: spec.Datastore, Version: spec.Version, CacheDir: spec.CacheDir, Refresh: spec.Refresh, UpdateLock: spec.UpdateLock, AptDir: spec.AptDir,
		Progress: spec.Progress, Log: spec.Log, Clock: spec.Clock,
	})
	if err != nil {
		return Root{}, err
	}
	if err := b.check(); err != nil {
		return Root{}, err
	}
	unlock, err := b.lock(ctx)
	if err != nil {
		return Root{}, err
	}
	defer unlock()
	if err := b.clear(); err != nil {
		return Root{}, err
	}
	r, err := b.ensureRoot(ctx)
	if err != nil {
		return Root{}, b.explain(err)
	}
	return Root{
		Dir: b.rootDir(r.Hash), EngineVersion: b.engineVersion(r), Package: b.recipe.EnginePackage + " " + b.packageVersion(r), Suite: b.recipe.Suite, Changes: r.Changes,
	}, nil
}
