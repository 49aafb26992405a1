package app

import (
	"cmp"
	"context"
	"log/slog"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/mariadb"
	"github.com/trove-dbaas/trove/engine/redis"
	"github.com/trove-dbaas/trove/engine/valkey"
	"github.com/trove-dbaas/trove/image"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/internal/imagelayout"
)

// drivers are the engines' drivers as this side has them: nothing of them runs here.
func drivers() []interface {
	engine.Engine
	engine.Configurable
} {
	log, clk := slog.New(slog.DiscardHandler), clock.System{}
	return []interface {
		engine.Engine
		engine.Configurable
	}{mariadb.New(log, clk), redis.New(log, clk), valkey.New(log, clk)}
}

// engines returns what the API gets to know of the engine drivers, by manager.
func engines() map[string]api.Engine {
	all := map[string]api.Engine{}
	for _, e := range drivers() {
		all[e.Info().Manager] = api.Engine{
			Capabilities: e.Info().Capabilities, Parameters: e.Parameters(),
			Defaults: func(ram, vcpus int) map[string]string { return e.Defaults(engine.Settings{RAM: ram, VCPUs: vcpus}) },
		}
	}
	return all
}

// engineInfo returns the facts about an engine, which become data of its datastore versions. Nothing else of an engine is used on this side.
func engineInfo(manager string) (engine.Info, error) {
	for _, e := range drivers() {
		if i := e.Info(); i.Manager == manager {
			return i, nil
		}
	}
	return engine.Info{}, trove.Errorf(trove.KindBadRequest, "There is no engine %q.", manager)
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
