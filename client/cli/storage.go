package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
)

func (a *app) instanceStorage() *cobra.Command {
	return a.onInstance(&cobra.Command{Use: "storage INSTANCE", Short: "Show how full the data volume is, its alarm, and whether it grows by itself", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, instance string, _ []string) error {
			s, err := c.Storage(ctx, instance)
			if err != nil {
				return err
			}
			return a.showStorage(s)
		})
}

func (a *app) showStorage(s wire.Storage) error {
	columns := []string{"size", "used", "used_percent", "alarm", "alarm_since", "autoscale", "last_attempt", "refusal"}
	r := row{s.Size, nil, nil, s.Alarm, stamp(s.AlarmSince), autoscaleText(s.Autoscale), stamp(s.LastAttempt), s.Refusal}
	if s.Used != nil {
		r[1] = *s.Used
	}
	if s.UsedPercent != nil {
		r[2] = *s.UsedPercent
	}
	return a.show(columns, r)
}

func autoscaleText(s *wire.Autoscale) string {
	if s == nil {
		return "off"
	}
	step := fmt.Sprintf("%d GiB", s.Step)
	if s.StepPercent > 0 {
		step = fmt.Sprintf("%d %%", s.StepPercent)
	}
	return fmt.Sprintf("from %d %% on by %s up to %d GiB", s.Threshold, step, s.Max)
}

func (a *app) instanceAutoscale() *cobra.Command {
	var want wire.Autoscale
	var step string
	var off bool
	cmd := a.onInstance(&cobra.Command{
		Use: "autoscale INSTANCE", Short: "Let the data volume grow by itself before it is full", Args: cobra.ExactArgs(1),
		Long: "Let the data volume grow by itself before it is full: from --threshold on by --step, up to --max and within the project's quota.\n" +
			"A growth that is refused is an event of the instance, and is tried again.",
	}, func(ctx context.Context, c *client.Client, instance string, _ []string) error {
		if off {
			return c.DeleteAutoscale(ctx, instance)
		}
		if want.Max < 1 {
			return usagef("Give --max, the GiB that the volume may grow to, or --off.")
		}
		if err := readStep(step, &want); err != nil {
			return err
		}
		s, err := c.SetAutoscale(ctx, instance, want)
		if err != nil {
			return err
		}
		return a.showStorage(s)
	})
	f := cmd.Flags()
	f.IntVar(&want.Threshold, "threshold", 80, "percent of the volume in use from which on it grows, 50 to 95")
	f.StringVar(&step, "step", "10%", "by how much: GiB, or percent of its size as 10%")
	f.IntVar(&want.Max, "max", 0, "GiB that it may grow to")
	f.BoolVar(&off, "off", false, "let it grow by itself no more")
	cmd.MarkFlagsMutuallyExclusive("off", "max")
	return cmd
}

// readStep reads GiB, or a percentage.
func readStep(text string, into *wire.Autoscale) error {
	digits, percent := strings.CutSuffix(text, "%")
	n, err := strconv.Atoi(strings.TrimSpace(digits))
	if err != nil || n < 1 {
		return usagef("--step: %q is neither GiB, such as 5, nor a percentage, such as 10%%.", text)
	}
	into.Step, into.StepPercent = n, 0
	if percent {
		into.Step, into.StepPercent = 0, n
	}
	return nil
}

func (a *app) instanceMetrics() *cobra.Command {
	return a.onInstance(&cobra.Command{Use: "metrics INSTANCE", Short: "Write the metrics of an instance in Prometheus' text format", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, instance string, _ []string) error {
			text, err := c.Metrics(ctx, instance)
			if err == nil {
				fmt.Fprint(a.env.Stdout, text)
			}
			return err
		})
}

func (a *app) instanceStatements() *cobra.Command {
	var limit int
	cmd := a.onInstance(&cobra.Command{Use: "statements INSTANCE", Short: "List the statements that took the most time", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, instance string, _ []string) error {
			if limit < 1 {
				return usagef("--limit: %d is less than 1.", limit)
			}
			all, err := c.Statements(ctx, instance, limit)
			if err != nil {
				return err
			}
			rows := make([]row, 0, len(all))
			for _, s := range all {
				rows = append(rows, row{s.Seconds, s.Calls, s.Rows, s.Database, s.Text})
			}
			return a.list([]string{"Seconds", "Calls", "Rows", "Database", "Statement"}, rows)
		})
	cmd.Flags().IntVar(&limit, "limit", 20, "how many, at most 100")
	return cmd
}

func (a *app) scrapeTokenCmd() *cobra.Command {
	show := func(t wire.ScrapeToken) error {
		columns, r := []string{"url", "created", "user_id"}, row{t.URL, stamp(&t.Created), t.UserID}
		if t.Token != "" {
			columns, r = append(columns, "token"), append(r, t.Token)
		}
		return a.show(columns, r)
	}
	return group("scrape-token", "The token that lets Prometheus read an instance's metrics and nothing else",
		a.onInstance(&cobra.Command{Use: "create INSTANCE", Short: "Make the token; one that there was is valid no more", Args: cobra.ExactArgs(1)},
			func(ctx context.Context, c *client.Client, instance string, _ []string) error {
				t, err := c.CreateScrapeToken(ctx, instance)
				if err != nil {
					return err
				}
				return show(t)
			}),
		a.onInstance(&cobra.Command{Use: "show INSTANCE", Short: "Show who made the token, and when", Args: cobra.ExactArgs(1)},
			func(ctx context.Context, c *client.Client, instance string, _ []string) error {
				t, err := c.ScrapeToken(ctx, instance)
				if err != nil {
					return err
				}
				return show(t)
			}),
		a.onInstance(&cobra.Command{Use: "revoke INSTANCE", Short: "Revoke the token", Args: cobra.ExactArgs(1)},
			func(ctx context.Context, c *client.Client, instance string, _ []string) error {
				return c.DeleteScrapeToken(ctx, instance)
			}))
}
