package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
)

// pollWait is how long one long poll lasts at the most.
const pollWait = 30 * time.Second

// wait follows the newest operation of an instance to its end and shows each change. A failed operation is an error with its reason.
func (a *app) wait(ctx context.Context, c *client.Client, i wire.Instance) error {
	ops, err := c.Operations(ctx, i.ID)
	if err != nil || len(ops) == 0 {
		return err
	}
	return a.follow(ctx, c, i, ops[0])
}

func (a *app) follow(ctx context.Context, c *client.Client, i wire.Instance, op wire.Operation) error {
	line := a.newLiveLine(op)
	defer line.end()
	for {
		line.show(op)
		if op.State != string(trove.OperationOpen) {
			break
		}
		next, err := c.Operation(ctx, i.ID, op.ID, op.Version, pollWait)
		if err != nil {
			return err
		}
		op = next
	}
	if op.State == string(trove.OperationDone) {
		return nil
	}
	reason := op.Error
	if reason == "" {
		reason = "no reason was given."
	}
	return trove.Errorf(trove.KindConflict, "%s of %s failed: %s `trove operation show %s %s` has the timeline.", op.Kind, i.Name, reason, i.ID, op.ID)
}

// waitGone follows a deletion. The instance, and with it the operation, is gone in the end.
func (a *app) waitGone(ctx context.Context, c *client.Client, i wire.Instance) error {
	err := a.wait(ctx, c, i)
	if client.IsNotFound(err) {
		return nil
	}
	return err
}

// liveLine shows the state of an operation: one line that is drawn again on a terminal, a line for each change elsewhere.
type liveLine struct {
	a     *app
	start time.Time
	last  string
	drawn bool
}

func (a *app) newLiveLine(op wire.Operation) *liveLine { return &liveLine{a: a, start: op.Created} }

const barWidth = 20

func (l *liveLine) show(op wire.Operation) {
	took := op.Updated.Sub(l.start).Seconds()
	what := op.Sentence
	if op.Undoing {
		what = "undoing: " + what
	}
	if l.a.env.Interactive {
		filled := min(max(op.Percent, 0), 100) * barWidth / 100
		fmt.Fprintf(l.a.env.Stderr, "\r\x1b[K[%s%s] %3d %% %s: %s (%.1f s)", strings.Repeat("#", filled), strings.Repeat(".", barWidth-filled),
			op.Percent, op.Step, what, took)
		l.drawn = true
		return
	}
	text := fmt.Sprintf("%3d %% %s: %s", op.Percent, op.Step, what)
	if text != l.last {
		fmt.Fprintf(l.a.env.Stderr, "%s (%.1f s)\n", text, took)
		l.last = text
	}
}

func (l *liveLine) end() {
	if l.drawn {
		fmt.Fprintln(l.a.env.Stderr)
	}
}
