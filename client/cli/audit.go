package cli

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/trove-dbaas/trove/client"
)

func (a *app) auditCmd() *cobra.Command {
	return group("audit", "Who asked for changes (administrators)", a.auditList())
}

func (a *app) auditList() *cobra.Command {
	var o client.AuditOptions
	var since, until string
	cmd := &cobra.Command{
		Use: "list", Short: "List who asked for changes, from where, and what came of it, newest first", Args: cobra.NoArgs,
		Long: `List who asked for changes, from where, and what came of it, newest first: the calls of all projects, those that were refused too. --since and
--until take a time such as 2026-01-02T03:04:05Z, or how long ago: 90m, 36h.`,
		RunE: a.run(func(ctx context.Context, c *client.Client, _ []string) error {
			var err error
			if o.Since, err = moment("--since", since); err != nil {
				return err
			}
			if o.Until, err = moment("--until", until); err != nil {
				return err
			}
			all, err := c.Audit(ctx, o)
			if err != nil {
				return err
			}
			rows := make([]row, 0, len(all))
			for _, r := range all {
				status, _ := strconv.Atoi(r.Reason.ReasonCode)
				user := r.Initiator.Name
				if user == "" {
					user = r.Initiator.ID
				}
				rows = append(rows, row{
					r.EventTime.UTC().Format(time.RFC3339), user, r.Initiator.ProjectID, r.Initiator.Host.Address, r.Action, r.Target.ID, r.Outcome, status, r.RequestID,
				})
			}
			return a.list([]string{"Time", "User", "Project ID", "From", "Action", "Target", "Outcome", "Status", "Request ID"}, rows)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&o.Project, "project", "", "calls of this project (id)")
	f.StringVar(&o.User, "user", "", "calls of this user (id or name)")
	f.StringVar(&o.Target, "instance", "", "calls about the instance, or another thing, with this id")
	f.StringVar(&o.Method, "method", "", "POST, PUT, PATCH or DELETE")
	f.StringVar(&o.Outcome, "outcome", "", "success or failure")
	f.StringVar(&since, "since", "", "calls from this time on")
	f.StringVar(&until, "until", "", "calls before this time")
	f.IntVar(&o.Limit, "limit", 100, "so many at most; 0: all")
	_ = cmd.RegisterFlagCompletionFunc("method", cobra.FixedCompletions([]string{"POST", "PUT", "PATCH", "DELETE"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("outcome", cobra.FixedCompletions([]string{"success", "failure"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// moment reads a time, or how long ago it was.
func moment(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return time.Now().Add(-ago), nil //nolint:forbidigo // what the user means by ago
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, usagef("%s: %q is neither a time such as 2026-01-02T03:04:05Z nor how long ago, such as 36h.", flag, text)
	}
	return at, nil
}
