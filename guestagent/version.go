package guestagent

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/guestagent/kept"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/imagelayout"
)

// upgrader returns the engine as one that can take over older data.
func (a *Agent) upgrader() (engine.Upgrader, error) {
	u, ok := a.cfg.Engine.(engine.Upgrader)
	if !ok {
		return nil, trove.Errorf(trove.KindNotImplemented, "Not supported: the version of this database cannot be changed.")
	}
	return u, nil
}

// keptPlace is where this guest keeps data. A driver's own directory has the driver's name.
func (a *Agent) keptPlace() kept.Place {
	l := a.cfg.Layout
	return kept.Place{Data: l.Data, State: l.State, Driver: filepath.Join(l.State, a.cfg.Engine.Info().Manager)}
}

// checkUpgrade answers CmdCheckUpgrade.
func checkUpgrade(ctx context.Context, a *Agent, r guestapi.Request) (any, error) {
	var args guestapi.CheckUpgradeArgs
	if err := decodeArgs(r, &args); err != nil {
		return nil, err
	}
	u, err := a.upgrader()
	if err != nil {
		return nil, err
	}
	var out guestapi.UpgradeCheck
	if out.Programs, out.Data, err = u.Versions(ctx, a.cfg.Layout); err != nil {
		return nil, fmt.Errorf("ask for the version: %w", err)
	}
	block := func(format string, args ...any) {
		out.Findings = append(out.Findings, guestapi.Finding{Blocks: true, Sentence: fmt.Sprintf(format, args...)})
	}
	if trove.CompareVersions(args.Version, out.Programs) < 0 {
		block("Version %s is older than %s, which the instance has: data is not taken over by an older version.", args.Version, out.Programs)
	}
	size, err := a.keptPlace().Measure(ctx)
	if err != nil {
		return nil, err
	}
	out.Bytes, out.Free, out.Reflink = size.Bytes, size.Free, size.Reflink
	if missing := size.Missing(); missing > 0 {
		block("The data of %s cannot be kept aside: the volume has %s free, and %s are missing. Grow the volume first.",
			mebibytes(size.Bytes), mebibytes(size.Free), mebibytes(missing))
	}
	found, err := u.CheckUpgrade(ctx, a.cfg.Layout, args.Version)
	if err != nil {
		return nil, fmt.Errorf("check the upgrade: %w", err)
	}
	for _, f := range found[:min(len(found), 200)] {
		out.Findings = append(out.Findings, guestapi.Finding{Blocks: f.Blocks, Sentence: f.Sentence})
	}
	return out, nil
}

func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20) }

// needStopped wants an engine that a stop command has ended.
func (r *run) needStopped() error {
	if err := r.needPrepared(); err != nil {
		return err
	}
	if now := r.supervisor.Service(); now.PID != 0 || !r.supervisor.intention().Stopped {
		return trove.Errorf(trove.KindConflict, "The database is to be stopped first.")
	}
	return nil
}

// keepData carries out CmdKeepData. The space is looked at again: it may have been used since the check.
func keepData(ctx context.Context, r *run) error {
	if err := r.needStopped(); err != nil {
		return err
	}
	p := r.keptPlace()
	p.For, _, _ = strings.Cut(r.req.ID, "/")
	if already, err := p.Own(); err != nil || already {
		return err
	}
	// Controllers know of no other copy when they begin an upgrade, unless their store is older than that one. The database ran until now on what is not a copy.
	if err := p.Drop(); err != nil {
		return err
	}
	size, err := p.Measure(ctx)
	if err != nil {
		return err
	}
	if missing := size.Missing(); missing > 0 {
		return trove.Errorf(trove.KindBadRequest, "The data of %s cannot be kept aside: %s are missing on the volume.", mebibytes(size.Bytes), mebibytes(missing))
	}
	r.progressed("copying the data of "+mebibytes(size.Bytes)+" beside it", 1)
	last := 0
	return p.Keep(ctx, func(bytes int64) {
		if percent := int(min(99, 100*bytes/max(1, size.Bytes))); percent > last {
			last = percent
			r.progressed("copying the data of "+mebibytes(size.Bytes)+" beside it", percent)
		}
	})
}

// upgradeData carries out CmdUpgrade. Run again it goes through all of it again: each part looks first.
func upgradeData(ctx context.Context, r *run) error {
	var args guestapi.UpgradeArgs
	if err := r.decode(&args); err != nil {
		return err
	}
	if err := r.needPrepared(); err != nil {
		return err
	}
	u, err := r.upgrader()
	if err != nil {
		return err
	}
	p := r.keptPlace()
	if whole, err := p.Kept(); err != nil {
		return err
	} else if !whole {
		return trove.Errorf(trove.KindConflict, "The data was not kept aside.")
	}
	r.progressed("looking at the data", 1)
	if err := r.supervisor.Stop(ctx); err != nil { // an earlier run of this command may have started it
		return err
	}
	if err := p.Touch(); err != nil {
		return err
	}
	previous := ""
	if args.Previous {
		previous = imagelayout.PreviousDir
	}
	e, l := r.cfg.Engine, r.cfg.Layout
	s := engine.Settings{ServerID: args.ServerID, RAM: args.RAM, VCPUs: args.VCPUs, Overrides: args.Overrides}
	if err := e.Configure(ctx, l, s); err != nil {
		return fmt.Errorf("write the settings: %w", err)
	}
	if err := u.Upgrade(ctx, l, previous, r.scaled(2, 70)); err != nil {
		return fmt.Errorf("upgrade the data: %w", err)
	}
	if err := e.Configure(ctx, l, s); err != nil { // the data directory may be another one
		return fmt.Errorf("write the settings: %w", err)
	}
	r.progressed("starting the database", 70)
	err = r.supervisor.Start(ctx)
	if err == nil {
		err = r.finish(ctx, u)
	}
	if err != nil && ctx.Err() == nil { // a machine of the old version must not start on this data
		if stopErr := r.supervisor.Stop(ctx); stopErr != nil {
			r.log.ErrorContext(ctx, "engine was not stopped after a failed upgrade", "op", r.req.ID, "err", stopErr)
		}
	}
	return err
}

// scaled is progress of a part of the command.
func (r *run) scaled(from, to int) engine.Progress {
	return func(sentence string, percent int) {
		r.progressed(sentence, from+(to-from)*min(max(percent, 0), 100)/100)
	}
}

// finish does what the running database needs.
func (r *run) finish(ctx context.Context, u engine.Upgrader) error {
	r.progressed("finishing in the database", 80)
	done, err := u.FinishUpgrade(ctx, r.cfg.Layout, r.scaled(80, 100))
	if err != nil {
		return fmt.Errorf("finish the upgrade: %w", err)
	}
	for _, sentence := range done {
		r.log.InfoContext(ctx, "upgrade was finished", "op", r.req.ID, "what", sentence)
	}
	r.said = strings.Join(done, " ")
	return nil
}

// finishUpgrade carries out CmdFinishUpgrade.
func finishUpgrade(ctx context.Context, r *run) error {
	u, err := r.upgrader()
	if err != nil {
		return nil //nolint:nilerr // an engine without upgrades has nothing to finish
	}
	if now := r.supervisor.Service(); !now.Up {
		return trove.Errorf(trove.KindConflict, "The database is not up: its status is %q.", string(now.Status))
	}
	return r.finish(ctx, u)
}

// restoreData carries out CmdRestoreData. An engine that an upgrade has started is stopped first.
func restoreData(ctx context.Context, r *run) error {
	if err := r.needPrepared(); err != nil {
		return err
	}
	r.progressed("stopping the database", 5)
	if err := r.supervisor.Stop(ctx); err != nil {
		return err
	}
	r.progressed("putting the kept data in its place", 20)
	p, step := r.keptPlace(), ""
	p.For, step, _ = strings.Cut(r.req.ID, "/")
	// An upgrade that is taken back takes the data back that it has kept itself; the way back after an upgrade is another operation than that.
	if strings.HasSuffix(step, "-undo") {
		if own, err := p.Own(); err != nil {
			return err
		} else if kept, err := p.Kept(); err != nil || kept && !own {
			return err
		}
	}
	restored, err := p.Restore()
	if restored {
		r.said = "the kept data is in its place"
	}
	return err
}

// dropKept carries out CmdDropKept.
func dropKept(_ context.Context, r *run) error {
	r.progressed("removing the kept data", 10)
	return r.keptPlace().Drop()
}
