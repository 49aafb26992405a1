package guesttest

import (
	"context"
	"strings"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
)

// command carries out one command.
func (g *guest) command(ctx context.Context, r guestapi.Request) (any, error) {
	switch r.Command {
	case guestapi.CmdStatus:
		var args guestapi.StatusArgs
		if err := r.DecodeArgs(&args); err != nil {
			return nil, err //nolint:wrapcheck // the caller's own mistake
		}
		return g.status(args.ID), nil
	case guestapi.CmdPing:
		return g.hello(), nil
	case guestapi.CmdRenewIdentity:
		var c bus.Credential
		if err := r.DecodeArgs(&c); err != nil {
			return nil, err //nolint:wrapcheck // the caller's own mistake
		}
		g.fleet.mu.Lock()
		defer g.fleet.mu.Unlock()
		g.fleet.volumes[g.instance].Credential = c
		return nil, nil
	case guestapi.CmdRequestCertificate:
		return g.requestCertificate()
	case guestapi.CmdApplyConfiguration:
		return g.applyConfiguration(r)
	case guestapi.CmdCheckUpgrade:
		return g.checkUpgrade()
	case guestapi.CmdPrepare, guestapi.CmdRestart, guestapi.CmdConfigure, guestapi.CmdStop, guestapi.CmdGrow,
		guestapi.CmdUpgradeAgent, guestapi.CmdKeepData, guestapi.CmdUpgrade, guestapi.CmdRestoreData, guestapi.CmdDropKept, guestapi.CmdFinishUpgrade:
		return g.start(ctx, r)
	}
	return nil, trove.Errorf(trove.KindNotImplemented, "The guest does not know the command %s.", r.Command)
}

// applyConfiguration keeps the overrides of the newest revision, unless they have one called "invalid". Those whose name begins with "static_" wait for
// a restart.
func (g *guest) applyConfiguration(r guestapi.Request) (any, error) {
	var args guestapi.ApplyConfigurationArgs
	if err := r.DecodeArgs(&args); err != nil {
		return nil, err //nolint:wrapcheck // the caller's own mistake
	}
	g.fleet.mu.Lock()
	defer g.fleet.mu.Unlock()
	v := g.fleet.volumes[g.instance]
	switch {
	case !v.Running:
		return nil, trove.Errorf(trove.KindUnavailable, "The database is not up.")
	case args.Revision < v.Revision:
		return nil, trove.Errorf(trove.KindConflict, "The guest has heard of a newer configuration already.")
	case args.Overrides["invalid"] != nil:
		return nil, trove.Errorf(trove.KindBadRequest, "The parameter invalid cannot be set.")
	}
	v.Revision, v.Settings.Overrides = args.Revision, args.Overrides
	var done guestapi.ConfigurationApplied
	for name := range args.Overrides {
		if strings.HasPrefix(name, "static_") {
			done.Restart = append(done.Restart, name)
		}
	}
	return done, nil
}

func (g *guest) status(id string) guestapi.OperationStatus {
	f := g.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.journal[g.instance][id]
	if !ok {
		return guestapi.OperationStatus{ID: id, State: guestapi.StateUnknown}
	}
	if s.State != guestapi.StateRunning {
		f.acked[id] = true
	}
	return s
}

// start begins a long command, unless the journal has it.
func (g *guest) start(ctx context.Context, r guestapi.Request) (any, error) {
	apply, err := g.apply(r)
	if err != nil {
		return nil, err
	}
	f := g.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	if s, ok := f.journal[g.instance][r.ID]; ok {
		if f.given[r.ID] != r.Command {
			return nil, trove.Errorf(trove.KindConflict, "Operation %s is another command, %s.", r.ID, f.given[r.ID])
		}
		f.acked[r.ID] = f.acked[r.ID] || s.State != guestapi.StateRunning
		return s, nil
	}
	s := guestapi.OperationStatus{ID: r.ID, State: guestapi.StateRunning, Sentence: "working"}
	f.journal[g.instance][r.ID], f.given[r.ID] = s, r.Command
	if !withdraws(r) {
		f.volumes[g.instance].Runs[r.ID]++
	}
	ctx = context.WithoutCancel(ctx) // the command outlives the call that gave it
	before, done := g.last, make(chan struct{})
	g.last = done
	g.work.Go(func() {
		if before != nil {
			<-before
		}
		g.carryOut(ctx, r, apply, done)
	})
	return s, nil
}

// carryOut does the work, when that of the command before is done, and reports its end until somebody knows it. It ends with the guest: what was not done by then is
// begun again by whoever asks, as the journal of an agent that was cut off says "unknown" after its restart.
func (g *guest) carryOut(ctx context.Context, r guestapi.Request, apply func(*Volume), done chan<- struct{}) {
	f := g.fleet
	halted := func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.guests[g.instance] != g }
	f.mu.Lock()
	work := f.opt.Work + f.slow[r.Command]
	f.mu.Unlock()
	if work > 0 {
		_ = clock.Sleep(ctx, work)
	}
	f.mu.Lock()
	s := guestapi.OperationStatus{ID: r.ID, State: guestapi.StateDone, Percent: 100}
	if m := f.fail[r.Command]; m != "" {
		s.State, s.Error = guestapi.StateFailed, &guestapi.Failure{Kind: trove.KindInternal, Message: m}
	} else {
		apply(f.volumes[g.instance])
	}
	f.journal[g.instance][r.ID] = s
	f.mu.Unlock()
	close(done)
	g.beat(ctx)
	if withdraws(r) {
		return // nobody asks after the end
	}
	for {
		g.report(ctx, guestapi.ReportEnd, s)
		_ = clock.Sleep(ctx, f.opt.Resend)
		f.mu.Lock()
		known := f.acked[r.ID]
		f.mu.Unlock()
		if known || halted() {
			return
		}
	}
}

// withdraws reports whether a command only takes the id of another.
func withdraws(r guestapi.Request) bool {
	var args guestapi.GrowArgs
	return r.Command == guestapi.CmdGrow && r.DecodeArgs(&args) == nil && args.SizeGiB == 0
}

// apply reads the arguments and returns what the command does to the guest.
func (g *guest) apply(r guestapi.Request) (func(*Volume), error) {
	var (
		prepare   guestapi.PrepareArgs
		configure guestapi.ConfigureArgs
		grow      guestapi.GrowArgs
		upgrade   guestapi.UpgradeAgentArgs
		err       error
	)
	switch r.Command {
	case guestapi.CmdPrepare:
		err = r.DecodeArgs(&prepare)
		return func(v *Volume) {
			g.fleet.certificates[g.instance], prepare.Certificate = prepare.Certificate, "" // it is another one each time
			v.Prepared, v.Running = &prepare, true
			v.Settings = guestapi.ConfigureArgs{ServerID: prepare.ServerID, RAM: prepare.RAM, VCPUs: prepare.VCPUs, Overrides: prepare.Overrides}
		}, err //nolint:wrapcheck // the caller's own mistake
	case guestapi.CmdConfigure:
		err = r.DecodeArgs(&configure)
		return func(v *Volume) {
			v.Settings = configure
			v.Settings.Restart = false
			if configure.Restart {
				v.Running, v.Stopped = true, false
				g.engineStart++
			}
		}, err //nolint:wrapcheck // the caller's own mistake
	case guestapi.CmdGrow:
		err = r.DecodeArgs(&grow)
		return func(v *Volume) { v.SizeGiB = max(v.SizeGiB, grow.SizeGiB) }, err //nolint:wrapcheck // the caller's own mistake
	case guestapi.CmdUpgradeAgent:
		err = r.DecodeArgs(&upgrade)
		return func(v *Volume) { v.Agent = upgrade.Version }, err //nolint:wrapcheck // the caller's own mistake
	case guestapi.CmdStop:
		return func(v *Volume) { v.Running, v.Stopped = false, true }, nil
	case guestapi.CmdKeepData, guestapi.CmdUpgrade, guestapi.CmdRestoreData, guestapi.CmdDropKept, guestapi.CmdFinishUpgrade:
		return g.applyUpgrade(r)
	}
	return func(v *Volume) { v.Running, v.Stopped = true, false; g.engineStart++ }, nil
}
