// Package reconcilers repairs what no operation looks at: machines that are gone or do not run though they should, wishes to delete that have no
// operation, tasks that nothing works on, volumes that are lost, databases that do not get up or were left stopped, volumes that fill up, guests that are silent, whose credential gets old, whose database needs a certificate or that
// have not heard of a change of their configuration, and things in the cloud that nobody owns.
//
// Each is level-triggered: it compares what is with what should be, one instance at a time (ReconcileOne), and may be called any number of
// times, by several processes too. None remembers anything but when it first saw something, and what it repaired lately. The loop only chooses whom to call.
package reconcilers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/store"
)

// Guests is what reconcilers ask of guests; *guestapi.Client is one.
type Guests interface {
	// Ping returns what the guest says of itself.
	Ping(ctx context.Context, instance string) (guestapi.Hello, error)
	// RenewIdentity gives the guest a new credential for its key.
	RenewIdentity(ctx context.Context, instance string, credential bus.Credential) error
	// ApplyConfiguration makes overrides hold in the running database.
	ApplyConfiguration(ctx context.Context, instance string, args guestapi.ApplyConfigurationArgs) (guestapi.ConfigurationApplied, error)
	// RequestCertificate asks for the key that the database's next certificate shall be for.
	RequestCertificate(ctx context.Context, instance string) (guestapi.CertificateRequest, error)
	// UseCertificate gives the database its certificate.
	UseCertificate(ctx context.Context, instance string, args guestapi.CertificateArgs) error
}

// Config is what the reconcilers work with.
type Config struct {
	Store     store.Store
	Cloud     cloud.Provider
	Guests    Guests
	Issuer    bus.Issuer // nil: credentials are not renewed
	Enrolment bus.Enrolment
	Certifier Certifier // nil: databases sign their certificates themselves
	Clock     clock.Clock
	Log       *slog.Logger
	Metrics   prometheus.Registerer // nil: none

	Deletes *Queue // instances that wait for their delete operation
	Wake    func() // says that an operation was enqueued

	Hold func(ctx context.Context) bool // reports that leftovers are only told of, after a restore; nil: never

	Interval     time.Duration // between two looks at everything, 15 s if 0
	Sweep        time.Duration // between two lists of all that the cloud has, 0: at each look
	Grace        time.Duration // before a leftover of an instance that the store knew is removed, 10 minutes if 0
	UnknownGrace time.Duration // the same for an instance that the store never knew, 24 hours if 0
	TokenLife    time.Duration // of the enrolment token of a machine that is made anew, 30 minutes if 0

	KeepUpgraded time.Duration // how long the data of before an upgrade is kept; 0: until the volume is nearly full

	CredentialLife time.Duration // of the credentials that the issuer makes, 24 hours if 0
}

// reconciler repairs one thing of one instance.
type reconciler interface {
	// concerns says from the row alone whether ReconcileOne has to look; it is called for every instance and must be cheap.
	concerns(i *trove.Instance, now time.Time) bool
	ReconcileOne(ctx context.Context, id string) error
}

// Loop calls the reconcilers.
type Loop struct {
	cfg        Config
	byInstance []named
	runs       *prometheus.CounterVec

	Machines    *Machines
	Deletes     *Deletes
	Stuck       *Stuck
	Silence     *Silence
	Engines     *Engines
	LeftStopped *LeftStopped
	Credentials *Credentials // nil without an issuer
	Leftovers   *Leftovers

	Configurations *Configurations
	Storage        *Storage
	Certificates   *Certificates // nil without a certifier
	Kept           *Kept
}

type named struct {
	name string
	reconciler
}

// New makes the reconcilers. It starts nothing.
func New(c Config) (*Loop, error) {
	if c.Store == nil || c.Cloud == nil || c.Guests == nil || c.Enrolment == nil || c.Clock == nil || c.Log == nil || c.Deletes == nil {
		return nil, errors.New("reconcilers: store, cloud, guests, enrolment, clock, log and the queue of deletes are needed")
	}
	c.Interval = cmp.Or(c.Interval, 15*time.Second)
	c.Grace = cmp.Or(c.Grace, 10*time.Minute)
	c.UnknownGrace = cmp.Or(c.UnknownGrace, 24*time.Hour)
	c.TokenLife = cmp.Or(c.TokenLife, 30*time.Minute)
	c.CredentialLife = cmp.Or(c.CredentialLife, 24*time.Hour)
	if c.Wake == nil {
		c.Wake = func() {}
	}
	l := &Loop{
		cfg: c, Machines: newMachines(c), Deletes: &Deletes{c}, Stuck: &Stuck{c}, Silence: newSilence(c), Engines: newEngines(c), LeftStopped: newLeftStopped(c), Leftovers: newLeftovers(c),
		Configurations: &Configurations{c}, Kept: &Kept{c}, Storage: newStorage(c),
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "trove_reconcile_total", Help: "Instances that a reconciler had to look at, by reconciler and outcome.",
		}, []string{"reconciler", "outcome"}),
	}
	l.byInstance = []named{{"machines", l.Machines}, {"deletes", l.Deletes}, {"stuck", l.Stuck}, {"silence", l.Silence}, {"engines", l.Engines}, {"left_stopped", l.LeftStopped}, {"storage", l.Storage}}
	if c.Issuer != nil {
		l.Credentials = newCredentials(c, l.one)
	}
	if c.Certifier != nil {
		l.Certificates = &Certificates{c}
	}
	if c.Metrics != nil {
		if err := errors.Join(c.Metrics.Register(l.runs), c.Metrics.Register(l.Storage.alarms)); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return l, nil
}

// Run looks at everything now and then, and at the queue of deletes when something comes in, until the context ends.
func (l *Loop) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { l.runDeletes(ctx) })
	if l.Credentials != nil {
		wg.Go(func() { l.Credentials.Run(ctx) })
	}
	defer wg.Wait()
	for ctx.Err() == nil {
		if err := l.Once(ctx); err != nil && ctx.Err() == nil {
			l.cfg.Log.WarnContext(ctx, "reconcilers could not look at everything", "err", err)
		}
		if clock.Sleep(ctx, l.cfg.Interval) != nil {
			return
		}
	}
}

// page is how many instances are read at a time.
const page = 500

// Once looks at everything once. An instance that cannot be repaired is logged and does not keep the others from it.
func (l *Loop) Once(ctx context.Context) error {
	swept, err := l.Machines.look(ctx)
	if err != nil {
		return err
	}
	marker := ""
	for {
		list, err := l.cfg.Store.Instances(ctx, store.InstanceFilter{Marker: marker, Limit: page})
		if err != nil {
			return fmt.Errorf("read instances: %w", err)
		}
		for i := range list {
			l.instance(ctx, &list[i])
		}
		if len(list) < page || ctx.Err() != nil {
			break
		}
		marker = list[len(list)-1].ID
	}
	l.Storage.counted()
	if err := l.those(ctx, "configurations", l.Configurations); err != nil {
		return err
	}
	if l.Certificates != nil {
		if err := l.those(ctx, "certificates", l.Certificates); err != nil {
			return err
		}
	}
	if err := l.those(ctx, "kept", l.Kept); err != nil {
		return err
	}
	if !swept {
		return l.those(ctx, "leftovers", waiting{l.Leftovers})
	}
	l.Leftovers.found = l.Machines.found()
	return l.those(ctx, "leftovers", l.Leftovers)
}

// those calls a reconciler for the instances that it names itself.
func (l *Loop) those(ctx context.Context, name string, r interface {
	Candidates(ctx context.Context) ([]string, error)
	ReconcileOne(ctx context.Context, id string) error
},
) error {
	ids, err := r.Candidates(ctx)
	if err != nil {
		return err //nolint:wrapcheck // says what
	}
	for _, id := range ids {
		l.one(ctx, name, id, r.ReconcileOne)
	}
	return ctx.Err()
}

func (l *Loop) instance(ctx context.Context, i *trove.Instance) {
	now := l.cfg.Clock.Now()
	for _, r := range l.byInstance {
		if r.concerns(i, now) {
			l.one(ctx, r.name, i.ID, r.ReconcileOne)
		}
	}
}

func (l *Loop) one(ctx context.Context, name, id string, reconcile func(context.Context, string) error) {
	if ctx.Err() != nil {
		return
	}
	outcome := "ok"
	if err := reconcile(ctx, id); err != nil {
		outcome = "failed"
		l.cfg.Log.WarnContext(ctx, "instance was not reconciled", "instance", id, "reconciler", name, "err", err)
	}
	l.runs.WithLabelValues(name, outcome).Inc()
}

// retryDeletes is how soon a delete whose instance is still locked is tried again.
const retryDeletes = 100 * time.Millisecond

func (l *Loop) runDeletes(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.cfg.Deletes.arrived:
		}
		for _, id := range l.cfg.Deletes.take() {
			if err := l.Deletes.ReconcileOne(ctx, id); err == nil {
				continue
			}
			if clock.Sleep(ctx, retryDeletes) != nil {
				return
			}
			l.cfg.Deletes.Add(id)
		}
	}
}
