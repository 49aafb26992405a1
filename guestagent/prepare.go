package guestagent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
)

// prepare makes the engine this instance's own and brings it up for the first time.
func prepare(ctx context.Context, r *run) error {
	var args guestapi.PrepareArgs
	if err := r.decode(&args); err != nil {
		return err
	}
	want := r.supervisor.intention()
	if want.Prepared {
		if want.PreparedBy == r.req.ID { // an agent died between the last two steps
			return nil
		}
		return trove.Errorf(trove.KindConflict, "This guest is prepared already.")
	}
	// An engine that runs with this command's settings was started by an agent that died since: it goes on from there.
	if now := r.supervisor.Service(); now.PID == 0 || want.PreparedBy != r.req.ID {
		if err := r.writePreparation(ctx, args); err != nil {
			return err
		}
	}
	r.progressed(fmt.Sprintf("starting the database, for at most %s", r.times.StartTimeout), 50)
	err := r.supervisor.Start(ctx)
	if err == nil && args.Adopt {
		err = r.finishAdoption(ctx)
	}
	if err != nil {
		if ctx.Err() == nil {
			r.giveUp(ctx)
		}
		return err
	}
	err = r.supervisor.setIntent(func(i *intent) { i.Prepared, i.Stopped, i.PreparedBy = true, false, r.req.ID })
	if err != nil {
		return err
	}
	r.progressed("the database answers", 100)
	return r.dropNextKey()
}

// writePreparation makes the data directory, if it is not there, and the settings that the first start needs.
func (r *run) writePreparation(ctx context.Context, args guestapi.PrepareArgs) error {
	r.progressed("looking at the data volume", 5)
	if err := r.supervisor.halt(ctx); err != nil {
		return err
	}
	e, l := r.cfg.Engine, r.cfg.Layout
	if args.Adopt {
		if err := r.adoptData(ctx); err != nil {
			return err
		}
	}
	ready, err := e.Initialised(l)
	if err != nil {
		return fmt.Errorf("look for a data directory: %w", err)
	}
	if !ready {
		r.progressed("making the data directory", 10)
		if err := e.Initialise(ctx, l); err != nil {
			return fmt.Errorf("make the data directory: %w", err)
		}
	}
	r.progressed("writing the settings", 40)
	p := r.preparation(args)
	if args.Certificate != "" {
		key, err := r.nextKey([]byte(args.Certificate))
		if err != nil {
			return err
		}
		p.TLSCert, p.TLSKey = []byte(args.Certificate), key
	}
	if err := e.Prepare(ctx, l, p); err != nil {
		return fmt.Errorf("write the settings: %w", err)
	}
	if args.RequireTLS {
		if err := r.enforceTLS(ctx); err != nil {
			return err
		}
	}
	if args.Adopt {
		if err := r.upgradeAdopted(ctx); err != nil {
			return err
		}
	}
	return r.supervisor.setIntent(func(i *intent) { i.PreparedBy = r.req.ID })
}

func (r *run) preparation(args guestapi.PrepareArgs) engine.Preparation {
	s := server{Engine: r.cfg.Engine, layout: r.cfg.Layout, hosts: r.cfg.Engine.Info().Capabilities.UserHosts}
	p := engine.Preparation{
		InstanceID: r.cfg.Instance, ServerID: args.ServerID,
		Settings:      engine.Settings{ServerID: args.ServerID, RAM: args.RAM, VCPUs: args.VCPUs, Overrides: args.Overrides},
		AdminPassword: trove.Secret(rand.Text() + rand.Text()),
		RootPassword:  trove.Secret(args.RootPassword),
		Databases:     args.Databases,
		Adopted:       args.Adopt,
	}
	for _, u := range args.Users {
		p.Users = append(p.Users, s.user(u))
	}
	return p
}

// giveUp ends what a failed prepare started: a database that is not usable is not left running.
func (r *run) giveUp(ctx context.Context) {
	if err := r.supervisor.halt(ctx); err != nil {
		r.log.ErrorContext(ctx, "engine was not stopped after a failed start", "err", err)
	}
}

func restart(ctx context.Context, r *run) error {
	if err := r.needPrepared(); err != nil {
		return err
	}
	r.progressed("restarting the database", 10)
	return r.supervisor.Restart(ctx)
}

func configure(ctx context.Context, r *run) error {
	var args guestapi.ConfigureArgs
	if err := r.decode(&args); err != nil {
		return err
	}
	if err := r.needPrepared(); err != nil {
		return err
	}
	r.progressed("writing the settings", 10)
	s := engine.Settings{ServerID: args.ServerID, RAM: args.RAM, VCPUs: args.VCPUs, Overrides: args.Overrides}
	if err := r.cfg.Engine.Configure(ctx, r.cfg.Layout, s); err != nil {
		return fmt.Errorf("write the settings: %w", err)
	}
	if !args.Restart {
		return nil
	}
	r.progressed("restarting the database", 30)
	return r.supervisor.Restart(ctx)
}

func stop(ctx context.Context, r *run) error {
	r.progressed("stopping the database", 10)
	return r.supervisor.Stop(ctx)
}

func (r *run) needPrepared() error {
	if !r.supervisor.Prepared() {
		return trove.Errorf(trove.KindConflict, "This guest is not prepared yet.")
	}
	return nil
}

// growPoll is between looks at the size.
const growPoll = time.Second

// sizeSlack is more than what a volume lacks that is encrypted below the guest, and far less than the GiB that the smallest growth adds.
const sizeSlack = 64 << 20

// grow waits until the data volume is as large as it shall be, with its file system. Whoever made the guest enlarges that: in a sandbox the host does, because
// a guest has no right to, and what is seen of it is the size of the file system: that of its volume, in whole GiB, without what it needs for itself, less than
// 1 GiB. A guest that does it by itself goes by the size of the volume, because an ext4 needs more.
func grow(ctx context.Context, r *run) error {
	var args guestapi.GrowArgs
	if err := r.decode(&args); err != nil {
		return err
	}
	if args.SizeGiB <= 0 {
		r.unasked = true
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.times.GrowTimeout)
	defer cancel()
	what, enough := "file system", int64(args.SizeGiB-1)<<30+1
	if r.cfg.Grow != nil {
		what, enough = "volume", int64(args.SizeGiB)<<30-sizeSlack
	}
	for {
		have, failed, err := r.dataSize()
		if err != nil {
			return err
		}
		if failed == nil && have >= enough {
			return nil
		}
		waits := fmt.Sprintf("waiting for the %s to have %d GiB, it has %.1f", what, args.SizeGiB, float64(have)/(1<<30))
		if failed != nil {
			waits = "waiting for the file system to fill the volume"
		}
		r.progressed(waits, 20)
		err = clock.Sleep(ctx, min(growPoll, r.times.GrowTimeout))
		switch {
		case err != nil && failed != nil:
			return trove.Wrap(trove.KindInternal, errors.Join(err, failed), "The file system could not be made to fill the volume within %s.", r.times.GrowTimeout)
		case err != nil:
			return trove.Wrap(trove.KindInternal, err, "The %s has %.1f GiB, less than the %d GiB asked for, after %s.",
				what, float64(have)/(1<<30), args.SizeGiB, r.times.GrowTimeout)
		}
	}
}

// dataSize is the size of the data volume where the file system was just made to fill it, or could not be; otherwise the size of the file system.
func (r *run) dataSize() (size int64, failed, err error) {
	if r.cfg.Grow != nil {
		size, failed = r.cfg.Grow()
		return size, failed, nil
	}
	usage, err := volumeUsage(r.cfg.Layout.Data)
	return usage.Total, nil, err
}
