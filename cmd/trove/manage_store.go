package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/app"
)

// exitError ends the program with a code of its own, when all that is to be said was printed.
type exitError struct{ code int }

func (e *exitError) Error() string { return "exit code " + strconv.Itoa(e.code) }

// storeCommands are the counterparts of trove-manage and trove-status.
func storeCommands(o *stateOptions) []*cobra.Command {
	help := func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	datastore := &cobra.Command{Use: "datastore", Short: "Datastores: kinds of databases", Args: cobra.NoArgs, RunE: help}
	datastore.AddCommand(datastoreUpdateCommand(o))
	version := &cobra.Command{Use: "datastore-version", Short: "Versions of datastores, and what they allow", Args: cobra.NoArgs, RunE: help}
	version.AddCommand(versionUpdateCommand(o),
		associationCommand(o, app.FlavorAssociation, "flavor", "FLAVOR-IDS"), associationCommand(o, app.VolumeTypeAssociation, "volume-type", "VOLUME-TYPE-IDS"))
	quota := &cobra.Command{Use: "quota", Short: "Quotas of projects", Args: cobra.NoArgs, RunE: help}
	quota.AddCommand(quotaUpdateCommand(o))
	return []*cobra.Command{databaseCommand(o), datastore, version, quota, statusCommand(o), importCommand(o), controllersCommand(o), adoptCloudCommand(o)}
}

// withAdmin runs f with the store of the state directory.
func withAdmin(ctx context.Context, o *stateOptions, f func(a *app.Admin) error) error {
	c, _, err := o.config()
	if err != nil {
		return err
	}
	a, err := app.OpenAdmin(ctx, c)
	if err != nil {
		return err
	}
	return errors.Join(f(a), a.Close())
}

func datastoreUpdateCommand(o *stateOptions) *cobra.Command {
	return &cobra.Command{
		Use: "update NAME [DEFAULT-VERSION]", Short: "Make a datastore, or set its default version", Args: cobra.RangeArgs(1, 2),
		Example: "  trove manage datastore update mysql\n  trove manage datastore update mysql 8.4",
		RunE: func(cmd *cobra.Command, args []string) error {
			version := ""
			if len(args) > 1 {
				version = args[1]
			}
			return withAdmin(cmd.Context(), o, func(a *app.Admin) error {
				made, err := a.UpdateDatastore(cmd.Context(), args[0], version)
				return done(err, made, "datastore "+args[0])
			})
		},
	}
}

// done says what became of something that is made or changed.
func done(err error, made bool, what string) error {
	if err != nil {
		return err
	}
	verb := "updated"
	if made {
		verb = "made"
	}
	fmt.Fprintf(os.Stdout, "%s was %s\n", what, verb)
	return nil
}

func versionUpdateCommand(o *stateOptions) *cobra.Command {
	var s app.VersionSpec
	c := &cobra.Command{
		Use: "update DATASTORE NAME MANAGER IMAGE PACKAGES ACTIVE", Short: "Make a version of a datastore, or change it", Args: cobra.ExactArgs(6),
		Long: `Make a version of a datastore, or change it. PACKAGES is a list with commas, or "". ACTIVE is 1 or 0: a version that is not active is not offered, and instances
that have it go on. What an image of this deployment says of its engine is taken from it.`,
		Example: `  trove manage datastore-version update mysql 8.4 mysql 3f0c9a51-6b1d-4c57-8f6f-0d1f0a3c9a51 "" 1
  trove manage datastore-version update mysql 8.4 mysql 3f0c9a51-6b1d-4c57-8f6f-0d1f0a3c9a51 "" 0 --version 8.4.2`,
		RunE: func(cmd *cobra.Command, args []string) error {
			active, err := strconv.ParseBool(args[5])
			if err != nil {
				return trove.Errorf(trove.KindBadRequest, "ACTIVE is 1 or 0, not %q.", args[5])
			}
			s.Datastore, s.Name, s.Manager, s.Image, s.Packages, s.Active = args[0], args[1], args[2], args[3], commas(args[4]), active
			return withAdmin(cmd.Context(), o, func(a *app.Admin) error {
				made, err := a.UpdateVersion(cmd.Context(), s)
				return done(err, made, "version "+s.Name+" of datastore "+s.Datastore)
			})
		},
	}
	c.Flags().StringVar(&s.Number, "version", "", "version number, where it is not the name")
	return c
}

func commas(list string) []string {
	var all []string
	for part := range strings.SplitSeq(list, ",") {
		if part = strings.TrimSpace(part); part != "" {
			all = append(all, part)
		}
	}
	return all
}

func associationCommand(o *stateOptions, kind app.Association, name, ids string) *cobra.Command {
	var number string
	change := func(use, short string, args int, split func(ids []string) (add, remove []string)) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Args: cobra.ExactArgs(args), Example: "  trove manage datastore-version " + name + " " + strings.NewReplacer(ids, "2,3", "DATASTORE", "mysql", "VERSION", "8.4").Replace(use),
			RunE: func(cmd *cobra.Command, args []string) error {
				add, remove := split(commas(strings.Join(args[2:], ",")))
				return withAdmin(cmd.Context(), o, func(a *app.Admin) error {
					now, err := a.Associate(cmd.Context(), kind, args[0], args[1], number, add, remove)
					if err != nil {
						return err
					}
					if len(now) == 0 {
						now = []string{"all"}
					}
					fmt.Fprintf(os.Stdout, "version %s of datastore %s allows: %s\n", args[1], args[0], strings.Join(now, ", "))
					return nil
				})
			},
		}
	}
	c := &cobra.Command{
		Use: name, Short: "Which " + name + "s a version allows; as long as none was added, all", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.PersistentFlags().StringVar(&number, "version", "", "version number, where several versions have the name")
	c.AddCommand(
		change("add DATASTORE VERSION "+ids, "Allow more", 3, func(ids []string) (add, remove []string) { return ids, nil }),
		change("delete DATASTORE VERSION "+ids, "Allow some no more", 3, func(ids []string) (add, remove []string) { return nil, ids }),
		change("list DATASTORE VERSION", "Show what is allowed", 2, func([]string) (add, remove []string) { return nil, nil }))
	return c
}

func quotaUpdateCommand(o *stateOptions) *cobra.Command {
	return &cobra.Command{
		Use: "update PROJECT RESOURCE LIMIT", Short: "Set how much a project may use; -1 is unlimited", Args: cobra.ExactArgs(3),
		Example: "  trove manage quota update 414366e7996a4338b1360323b82b2e14 instances 20\n  trove manage quota update -- 414366e7996a4338b1360323b82b2e14 volumes -1",
		RunE: func(cmd *cobra.Command, args []string) error {
			limit, err := strconv.Atoi(args[2])
			if err != nil {
				return trove.Errorf(trove.KindBadRequest, "LIMIT is a whole number, not %q.", args[2])
			}
			return withAdmin(cmd.Context(), o, func(a *app.Admin) error {
				return done(a.SetQuota(cmd.Context(), args[0], args[1], limit), false, "the quota of "+args[1])
			})
		},
	}
}

func statusCommand(o *stateOptions) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Look whether the service can be upgraded now (trove-status upgrade check)", Args: cobra.NoArgs, Example: "  trove manage status",
		Long: "Look whether the service can be upgraded now, and change nothing. The exit code is 0 when all is well, 1 with warnings, and 2 when something failed.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := o.config()
			if err != nil {
				return err
			}
			all, err := app.UpgradeCheck(cmd.Context(), c)
			if err != nil {
				fmt.Fprintln(os.Stderr, "error:", err)
				return &exitError{int(app.CheckFailure)}
			}
			worst := app.CheckSuccess
			w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "CHECK\tRESULT\tDETAILS")
			for _, r := range all {
				worst = max(worst, r.Level)
				fmt.Fprintf(w, "%s\t%s\t%s\n", r.Check, r.Level, r.Detail)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			if worst == app.CheckSuccess {
				return nil
			}
			return &exitError{int(worst)}
		},
	}
}
