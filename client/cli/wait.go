package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
	"github.com/trove-dbaas/trove/internal/clock"
)

const (
	pollWait   = 30 * time.Second       // how long one long poll lasts at the most
	patience   = 60 * time.Second       // how long the server may be away while an operation is watched: longer than a rolling restart
	firstPause = 200 * time.Millisecond // before the first try again; the pause doubles
	longPause  = 5 * time.Second        // the longest pause
)

// failedError is the end of an operation that was not reached.
type failedError struct{ message string }

func (e *failedError) Error() string { return e.message }

// wait follows an operation of an instance to its end and shows each change. An operation that failed is an error with its reason. A server
// that goes away for a moment is waited for. The end of the context ends the waiting, not the operation. Without an id nothing was begun.
func (a *app) wait(ctx context.Context, c *client.Client, i wire.Instance, id string) error {
	if id == "" {
		return nil
	}
	line := &liveLine{env: a.env}
	defer line.end()
	var op wire.Operation
	for poll := time.Duration(0); ; poll = pollWait {
		err := a.patiently(ctx, line, func() error {
			next, err := c.Operation(ctx, i.ID, id, op.Version, poll)
			if err == nil {
				op = next
			}
			return err
		})
		if err != nil && ctx.Err() != nil {
			return &interruptedError{cause: context.Cause(ctx), message: fmt.Sprintf(
				"Not waiting any more; the work on %s goes on: `trove operation list %s` shows it, `trove operation cancel %s %s` stops it.", i.Name, i.Name, i.Name, id)}
		}
		if err != nil {
			return err
		}
		line.show(op)
		if op.State != string(trove.OperationOpen) {
			return outcome(i, op)
		}
	}
}

func outcome(i wire.Instance, op wire.Operation) error {
	if op.State == string(trove.OperationDone) {
		return nil
	}
	reason := op.Error
	if reason == "" {
		reason = "no reason was given."
	}
	return &failedError{fmt.Sprintf("%s of %s failed: %s `trove operation show %s %s` has the timeline.", op.Kind, i.Name, reason, i.ID, op.ID)}
}

// waitGone follows a deletion. The instance, and with it the operation, is gone in the end.
func (a *app) waitGone(ctx context.Context, c *client.Client, i wire.Instance, id string) error {
	err := a.wait(ctx, c, i, id)
	if client.IsNotFound(err) {
		return nil
	}
	return err
}

// patiently repeats a question to the server, which must change nothing there, for as long as the server is away, and patience at the most.
func (a *app) patiently(ctx context.Context, line *liveLine, ask func() error) error {
	var away func() time.Duration
	for pause := firstPause; ; pause = min(2*pause, longPause) {
		err := ask()
		if !unavailable(err) || ctx.Err() != nil {
			return err
		}
		if away == nil {
			away = clock.Stopwatch()
			line.note(fmt.Sprintf("The server is away; trying again for %.0f s.", patience.Seconds()))
		}
		if away() >= patience {
			return err
		}
		if err := clock.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// unavailable reports whether an error may be over in a moment: no connection, one that broke off, or a proxy without a server behind it.
func unavailable(err error) bool {
	if e, ok := errors.AsType[*client.Error](err); ok {
		return e.Status == http.StatusBadGateway || e.Status == http.StatusServiceUnavailable || e.Status == http.StatusGatewayTimeout
	}
	e, ok := errors.AsType[*trove.Error](err)
	return ok && e.Kind == trove.KindUnavailable
}
