package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
	"github.com/trove-dbaas/trove/internal/clock"
)

const (
	followFirst = 500 * time.Millisecond // between two looks at a timeline in which something happens
	followLong  = 5 * time.Second        // and in one in which nothing does
)

func (a *app) instanceEvents() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use: "events INSTANCE", Short: "Show what happened to an instance", Args: cobra.ExactArgs(1), ValidArgsFunction: a.complete(instanceNames),
		Long: "Show what happened to an instance, oldest first: its operations step by step, failures of the database with the last lines of its log,\nrestarts of the machine and of the guest agent. A deleted instance is named by its id.",
	}
	cmd.Flags().BoolVar(&follow, "follow", false, "go on and show what happens, until Ctrl-C")
	cmd.RunE = a.run(func(ctx context.Context, c *client.Client, args []string) error {
		id, err := instanceOrGone(ctx, c, args[0])
		if err != nil {
			return err
		}
		events, marker, err := eventsAfter(ctx, c, id, "")
		if err != nil {
			return err
		}
		if err := a.list(a.eventRows(events)); err != nil || !follow {
			return err
		}
		return a.follow(ctx, c, id, marker)
	})
	return cmd
}

// instanceOrGone returns the instance's id. What looks like an id and is not found may be one that was deleted.
func instanceOrGone(ctx context.Context, c *client.Client, arg string) (string, error) {
	i, err := c.FindInstance(ctx, arg)
	if client.IsNotFound(err) && trove.ValidID(arg) {
		return arg, nil
	}
	return i.ID, err
}

// eventsAfter reads all pages after the marker and returns the marker of the last entry.
func eventsAfter(ctx context.Context, c *client.Client, id, marker string) ([]wire.InstanceEvent, string, error) {
	var all []wire.InstanceEvent
	for {
		page, more, err := c.Events(ctx, id, client.ListOptions{Marker: marker})
		if err != nil {
			return nil, marker, err
		}
		all = append(all, page...)
		if len(page) > 0 {
			marker = page[len(page)-1].ID
		}
		if !more || len(page) == 0 {
			return all, marker, nil
		}
	}
}

// eventRows shows details where they have room: in JSON and YAML, and where they are asked for.
func (a *app) eventRows(events []wire.InstanceEvent) ([]string, []row) {
	columns := []string{"At", "Event", "Step", "Times", "Sentence"}
	detailed := a.format == "json" || a.format == "yaml" || len(a.column) > 0
	if detailed {
		columns = append(columns, "Details", "Operation", "ID")
	}
	rows := make([]row, 0, len(events))
	for n := range events {
		e := &events[n]
		step := e.Step
		if e.Operation != "" {
			step = e.Operation + " " + e.Step
		}
		r := row{e.At.Format("2006-01-02T15:04:05.000Z"), e.Kind, step, e.Count, e.Sentence}
		if detailed {
			r = append(r, e.Details, e.OperationID, e.ID)
		}
		rows = append(rows, r)
	}
	return columns, rows
}

// follow shows what comes until the context ends. A server that goes away for a moment is waited for.
func (a *app) follow(ctx context.Context, c *client.Client, id, marker string) error {
	line := &liveLine{env: a.env}
	defer line.end()
	pause := followFirst
	for {
		if err := clock.Sleep(ctx, pause); err != nil {
			return nil // the user has seen enough
		}
		var events []wire.InstanceEvent
		err := a.patiently(ctx, line, func() (err error) {
			events, marker, err = eventsAfter(ctx, c, id, marker)
			return err
		})
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if pause = min(2*pause, followLong); len(events) == 0 {
			continue
		}
		pause = followFirst
		if err := a.list(a.eventRows(events)); err != nil {
			return err
		}
	}
}
