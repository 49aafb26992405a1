package conductor

import (
	"context"

	"github.com/trove-dbaas/trove/bus"
)

// Feed gives a conductor that does not run one message, and writes what came of it.
func Feed(ctx context.Context, d *Conductor, subject string, data []byte) {
	d.budgets.of = map[string]*budget{} // fuzzing says more than a guest may
	f := NewFeeder(d)
	f.Receive(ctx, subject, data)
	f.Flush(ctx)
}

// Feeder gives a conductor that does not run messages one by one, and writes full batches.
type Feeder struct {
	d *Conductor
	b *batch
}

// NewFeeder makes a Feeder.
func NewFeeder(d *Conductor) *Feeder { return &Feeder{d, newBatch()} }

// Receive handles one message.
func (f *Feeder) Receive(ctx context.Context, subject string, data []byte) {
	f.d.receive(ctx, bus.NewMessage(subject, data, nil))
	f.d.drain(f.b)
	if f.b.size() >= maxBatch {
		f.Flush(ctx)
	}
}

// Flush writes what is left.
func (f *Feeder) Flush(ctx context.Context) {
	f.d.drain(f.b)
	f.d.flush(ctx, f.b)
}
