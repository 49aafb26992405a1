package inmemory

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/membus"
	"github.com/trove-dbaas/trove/cloud"
	"github.com/trove-dbaas/trove/conductor"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/store"
	"github.com/trove-dbaas/trove/taskmanager"
)

// StartControllers starts conductor and taskmanager as in processes of their own: what one tells the other goes over the bus. They listen when it
// returns; stop ends them and returns what they ended with.
func StartControllers(ctx context.Context, st store.Store, broker *membus.Broker, provider cloud.Provider) (stop func() error, err error) {
	log := slog.New(slog.DiscardHandler)
	c, err := conductor.New(conductor.Config{Store: st, Conn: broker.Conn("conductor"), Clock: clock.System{}, Log: log})
	if err != nil {
		return nil, err
	}
	m, err := taskmanager.New(taskmanager.Config{
		Store: st, Cloud: provider, Guests: guestapi.NewClient(broker.Conn("taskmanager")), Enrolment: enrolment{}, Sealer: Sealer{},
		Clock: clock.System{}, Log: log, Reconcile: time.Second,
	})
	if err != nil {
		return nil, err
	}
	_, err = broker.Conn("wakes").Subscribe(ctx, guestapi.WakeSubject, "", func(context.Context, bus.Message) { m.Wake() })
	if err != nil {
		return nil, err
	}
	var ends []func() error
	for _, run := range []func(context.Context) error{c.Run, m.Run} {
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		done := make(chan error, 1)
		go func() { done <- run(ctx) }()
		ends = append(ends, func() error {
			cancel()
			return <-done
		})
	}
	stop = func() error {
		var errs []error
		for _, end := range slices.Backward(ends) {
			errs = append(errs, end())
		}
		return errors.Join(errs...)
	}
	for !broker.Listening(guestapi.ReportSubject(trove.NewID(), guestapi.ReportHello)) {
		if err := clock.Sleep(ctx, 5*time.Millisecond); err != nil {
			return nil, errors.Join(err, stop())
		}
	}
	return stop, nil
}

type enrolment struct{}

func (enrolment) EnrolURLs() []string { return []string{"https://192.0.2.1:4223"} }
func (enrolment) CABundle() string    { return "a certificate" }

// Sealer seals nothing, and opens only what was sealed for the same purpose.
type Sealer struct{}

// Seal is secrets.Sealer.Seal.
func (Sealer) Seal(_ context.Context, purpose string, plain trove.Secret) (string, error) {
	return purpose + "|" + plain.Reveal(), nil
}

// Open is secrets.Sealer.Open.
func (Sealer) Open(_ context.Context, purpose, sealed string) (trove.Secret, error) {
	text, ok := strings.CutPrefix(sealed, purpose+"|")
	if !ok {
		return "", trove.Permanent(errors.New("sealed for something else"))
	}
	return trove.Secret(text), nil
}
