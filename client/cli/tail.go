package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/trove-dbaas/trove/client"
)

const (
	// tailWait is how long one call waits for lines.
	tailWait = 30 * time.Second
	// tailBusy is how long an earlier call of the same user may take to be given up by the server.
	tailBusy = 5
)

func (a *app) logTail() *cobra.Command {
	var lines int
	var follow, published bool
	cmd := a.onInstance(&cobra.Command{
		Use: "tail INSTANCE LOG", Short: "Write the last lines of a log to the standard output, and those that come", Args: cobra.ExactArgs(2),
		Long: "Write the last lines of a log of the running database to the standard output. With --follow it goes on with the lines that come, until Ctrl-C;\n" +
			"an instance can be followed by one call at a time. Bytes that are no text are written as \\x and two digits.",
	}, func(ctx context.Context, c *client.Client, instance string, args []string) error {
		if lines < 1 {
			return usagef("--lines: %d is less than 1.", lines)
		}
		if published {
			return c.ReadLog(ctx, instance, args[0], lines, a.env.Stdout)
		}
		return a.tail(ctx, c, instance, args[0], lines, follow)
	})
	f := cmd.Flags()
	f.IntVarP(&lines, "lines", "n", 50, "how many lines there are at first")
	f.BoolVarP(&follow, "follow", "f", false, "go on and write what comes, until Ctrl-C")
	f.BoolVar(&published, "published", false, "the last lines of what was published instead, which needs no running database")
	f.StringVar(&a.format, "format", "table", "not used: lines are written as they are") // so that -f is free here
	_ = f.MarkHidden("format")
	cmd.MarkFlagsMutuallyExclusive("published", "follow")
	return cmd
}

func (a *app) tail(ctx context.Context, c *client.Client, instance, log string, lines int, follow bool) error {
	line := &liveLine{env: a.env}
	defer line.end()
	o := client.TailOptions{Lines: lines}
	busy := 0
	for {
		err := a.patiently(ctx, line, func() error {
			t, err := c.TailLog(ctx, instance, log, o)
			if err != nil {
				return err
			}
			o = client.TailOptions{Since: t.Cursor, Wait: tailWait}
			if t.Restarted {
				line.note("The log was begun anew or cut; lines may be missing here.")
			}
			for _, l := range t.Lines {
				fmt.Fprintln(a.env.Stdout, l)
			}
			return nil
		})
		if ctx.Err() != nil && follow {
			return nil // the user has seen enough
		}
		if e, ok := errors.AsType[*client.Error](err); ok && e.Status == http.StatusConflict && o.Since != "" && busy < tailBusy {
			busy++
			continue
		}
		if err != nil || !follow {
			return err
		}
		busy = 0
	}
}
