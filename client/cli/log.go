package cli

import (
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
)

var logColumns = []string{"Name", "Type", "Status", "Published", "Pending", "Container", "Prefix"}

func logRow(l wire.Log) row {
	return row{l.Name, l.Type, l.Status, l.Published, l.Pending, l.Container, l.Prefix}
}

func (a *app) logCmd() *cobra.Command {
	list := a.onInstance(&cobra.Command{Use: "list INSTANCE", Short: "List the logs of an instance", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, instance string, _ []string) error {
			all, err := c.Logs(ctx, instance)
			if err != nil {
				return err
			}
			rows := make([]row, 0, len(all))
			for _, l := range all {
				rows = append(rows, logRow(l))
			}
			return a.list(logColumns, rows)
		})
	return group("log", "Logs of an instance: what is published of one can be read, and one can be followed", list,
		a.logAction("show", "Show a log", wire.LogAction{}),
		a.logAction("enable", "Let the database write a log", wire.LogAction{Enable: 1}),
		a.logAction("disable", "Let the database write a log no more", wire.LogAction{Disable: 1}),
		a.logAction("publish", "Publish what is new in a log; a log that is off is enabled", wire.LogAction{Publish: 1}),
		a.logAction("discard", "Remove what was published of a log", wire.LogAction{Discard: 1}),
		a.logObjects(), a.logCat(), a.logTail(), a.logSave())
}

func (a *app) logAction(use, short string, action wire.LogAction) *cobra.Command {
	return a.onInstance(&cobra.Command{Use: use + " INSTANCE LOG", Short: short, Args: cobra.ExactArgs(2)},
		func(ctx context.Context, c *client.Client, instance string, args []string) error {
			action.Name = args[0]
			l, err := c.ActOnLog(ctx, instance, action)
			if err != nil {
				return err
			}
			return a.show([]string{"name", "type", "status", "published", "pending", "container", "prefix", "metafile"}, append(logRow(l), l.Metafile))
		})
}

func (a *app) logObjects() *cobra.Command {
	return a.onInstance(&cobra.Command{Use: "objects INSTANCE LOG", Short: "List the published parts of a log", Args: cobra.ExactArgs(2)},
		func(ctx context.Context, c *client.Client, instance string, args []string) error {
			all, err := c.LogObjects(ctx, instance, args[0])
			if err != nil {
				return err
			}
			rows := make([]row, 0, len(all))
			for _, o := range all {
				rows = append(rows, row{o.Name, o.Size, o.Lines, time.Time(o.Published).Format(time.RFC3339)})
			}
			return a.list([]string{"Name", "Size", "Lines", "Published"}, rows)
		})
}

func (a *app) logCat() *cobra.Command {
	return a.onInstance(&cobra.Command{Use: "cat INSTANCE LOG", Short: "Write what was published of a log to the standard output", Args: cobra.ExactArgs(2)},
		func(ctx context.Context, c *client.Client, instance string, args []string) error {
			return c.ReadLog(ctx, instance, args[0], 0, a.env.Stdout)
		})
}

func (a *app) logSave() *cobra.Command {
	var file string
	cmd := a.onInstance(&cobra.Command{Use: "save INSTANCE LOG", Short: "Save what was published of a log in a file", Args: cobra.ExactArgs(2)},
		func(ctx context.Context, c *client.Client, instance string, args []string) error {
			path := file
			if path == "" {
				path = "trove-" + instance + "-" + args[0] + ".log"
			}
			f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
			if err != nil {
				return trove.Wrap(trove.KindBadRequest, err, "The file %s cannot be written.", path)
			}
			err = c.ReadLog(ctx, instance, args[0], 0, f)
			if closeErr := f.Close(); err == nil && closeErr != nil {
				err = trove.Wrap(trove.KindBadRequest, closeErr, "The file %s cannot be written.", path)
			}
			if err != nil {
				return err
			}
			return a.show([]string{"file"}, row{path})
		})
	cmd.Flags().StringVar(&file, "file", "", "where to save it; empty: trove-INSTANCE-LOG.log")
	return cmd
}
