package app

import (
	"context"
	"fmt"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/local/hostnet"
	"github.com/trove-dbaas/trove/store"
)

// networkEventsWithin is how long lines of the same kind are one line of the timeline: a hostile guest must not push out all others.
const networkEventsWithin = time.Hour

// watchNetwork keeps the host's network as it should be, and writes what happened into the timelines of the instances.
func (c *controllers) watchNetwork(ctx context.Context) error {
	return c.net.Watch(ctx, hostnet.Watcher{
		Mended: func(ctx context.Context, d hostnet.Drift) {
			if d.Instance != "" {
				c.noteNetwork(ctx, d.Instance, trove.EventNetworkMended, d.Sentence+" It was made again.")
			}
		},
		Dropped: func(ctx context.Context, instance, reason string, frames uint64) {
			sentences := map[string]string{
				"connections": "The guest opened too many connections to the control plane.",
				"bytes":       "The guest sent too much to the control plane.",
			}
			sentence, ok := sentences[reason]
			if !ok {
				sentence = "The guest sent what it may not send: to a neighbour, to another port or address, or in another name."
			}
			c.noteNetwork(ctx, instance, trove.EventNetworkRefused, fmt.Sprintf("%s Packets dropped: %d.", sentence, frames))
		},
	})
}

func (c *controllers) noteNetwork(ctx context.Context, instance, kind, sentence string) {
	err := c.store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		return tx.CountInstanceEvent(ctx, trove.InstanceEvent{InstanceID: instance, At: c.clock.Now(), Kind: kind, Sentence: sentence}, networkEventsWithin)
	})
	if err != nil && ctx.Err() == nil {
		c.log.WarnContext(ctx, "an event of an instance's network was not written", "instance", instance, "err", err)
	}
}
