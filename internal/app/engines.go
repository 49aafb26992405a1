package app

import (
	"cmp"
	"context"
	"log/slog"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/image"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/config"
	allengines "github.com/trove-dbaas/trove/internal/engines"
	"github.com/trove-dbaas/trove/internal/imagelayout"
)

// engines returns what the API gets to know of the engine drivers, by manager.
func engines() map[string]api.Engine {
	all := map[string]api.Engine{}
	for _, e := range drivers() {
		known := api.Engine{
			Capabilities: e.Info().Capabilities, Parameters: func(version string) []trove.Parameter { return engine.ParametersOf(e, version) },
		}
		if c, ok := e.(engine.Configurable); ok {
			known.Defaults = func(ram, vcpus int) map[string]string { return c.Defaults(engine.Settings{RAM: ram, VCPUs: vcpus}) }
		}
		all[e.Info().Manager] = known
	}
	return all
}

// rulesOf returns the rules of a driver's parameters for a version of the product, none if there is no such driver.
func rulesOf(manager, version string) []trove.Parameter { return engines()[manager].Rules(version) }

// drivers are those that say nothing: nothing of them runs on this side.
func drivers() []engine.Engine { return allengines.All(slog.New(slog.DiscardHandler), clock.System{}) }

// engineInfo returns the facts about an engine, which become data of its datastore versions. Nothing else of an engine is used on this side.
func engineInfo(manager string) (engine.Info, error) {
	for _, e := range drivers() {
		if i := e.Info(); i.Manager == manager {
			return i, nil
		}
	}
	return engine.Info{}, trove.Errorf(trove.KindBadRequest, "There is no engine %q.", manager)
}

// BuildDisk builds a whole-disk image for virtual machines.
func BuildDisk(ctx context.Context, cfg config.Config, spec image.DiskSpec) (image.DiskManifest, error) {
	s := StateDir(cfg.State)
	spec.CacheDir, spec.Engine, spec.Clock = cmp.Or(cfg.Cache, s.Path("cache")), engineInfo, clock.System{}
	var err error
	if spec.AgentKeys, err = releaseKeys(s); err != nil {
		return image.DiskManifest{}, err
	}
	return image.BuildDisk(ctx, spec)
}

// BuildImage builds an image into the state directory, or finds it there and makes it the current one of its datastore version.
func BuildImage(ctx context.Context, cfg config.Config, spec image.BuildSpec) (imagelayout.Manifest, error) {
	s := StateDir(cfg.State)
	spec.ImagesDir, spec.CacheDir, spec.Engine, spec.Clock = ImagesDir(cfg), cmp.Or(cfg.Cache, s.Path("cache")), engineInfo, clock.System{}
	var err error
	if spec.AgentKeys, err = releaseKeys(s); err != nil {
		return imagelayout.Manifest{}, err
	}
	m, err := image.Build(ctx, spec)
	if err != nil {
		return imagelayout.Manifest{}, err
	}
	return m, imagelayout.Touch(spec.ImagesDir, m.ID, spec.Clock.Now())
}
