package cli

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
)

func (a *app) datastoreCmd() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List the datastores", Args: cobra.NoArgs,
		RunE: a.run(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Datastores(ctx)
			if err != nil {
				return err
			}
			rows := make([]row, 0, len(all))
			for _, d := range all {
				versions := make([]string, 0, len(d.Versions))
				for _, v := range d.Versions {
					versions = append(versions, v.Name)
				}
				rows = append(rows, row{d.ID, d.Name, versions})
			}
			return a.list([]string{"ID", "Name", "Versions"}, rows)
		}),
	}
	show := &cobra.Command{
		Use: "show DATASTORE", Short: "Show a datastore by name or id", Args: cobra.ExactArgs(1), ValidArgsFunction: a.complete(datastoreNames),
		RunE: a.run(func(ctx context.Context, c *client.Client, args []string) error {
			d, err := c.Datastore(ctx, args[0])
			if err != nil {
				return err
			}
			return a.show([]string{"id", "name", "default_version"}, row{d.ID, d.Name, d.DefaultVersion})
		}),
	}
	versions := &cobra.Command{
		Use: "list DATASTORE", Short: "List the versions of a datastore", Args: cobra.ExactArgs(1), ValidArgsFunction: a.complete(datastoreNames),
		RunE: a.run(func(ctx context.Context, c *client.Client, args []string) error {
			d, err := c.Datastore(ctx, args[0])
			if err != nil {
				return err
			}
			rows := make([]row, 0, len(d.Versions))
			for _, v := range d.Versions {
				rows = append(rows, row{v.ID, v.Name, v.Version, v.ID == d.DefaultVersion})
			}
			return a.list([]string{"ID", "Name", "Version", "Default"}, rows)
		}),
	}
	version := &cobra.Command{
		Use: "show DATASTORE VERSION", Short: "Show a version by name or id", Args: cobra.ExactArgs(2), ValidArgsFunction: a.complete(datastoreNames),
		RunE: a.run(func(ctx context.Context, c *client.Client, args []string) error {
			v, err := c.DatastoreVersion(ctx, args[0], args[1])
			if err != nil {
				return err
			}
			columns, r := []string{"id", "name", "version", "datastore"}, row{v.ID, v.Name, v.Version, v.Datastore}
			if v.Active != nil && v.Image != nil { // for administrators
				columns, r = append(columns, "active", "image"), append(r, *v.Active, *v.Image)
			}
			return a.show(columns, r)
		}),
	}
	return group("datastore", "Kinds and versions of databases", list, show, a.datastoreDelete(), group("version", "Versions of a datastore", versions, version, a.versionCreate(), a.versionSet(), a.versionDelete()))
}

var flavorColumns = []string{"ID", "Name", "RAM", "vCPUs", "Disk"}

func flavorRow(f wire.Flavor) row { return row{f.StrID, f.Name, f.RAM, f.VCPUs, f.Disk} }

func (a *app) flavorCmd() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List the flavors", Args: cobra.NoArgs,
		RunE: a.run(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Flavors(ctx)
			if err != nil {
				return err
			}
			rows := make([]row, 0, len(all))
			for _, f := range all {
				rows = append(rows, flavorRow(f))
			}
			return a.list(flavorColumns, rows)
		}),
	}
	show := &cobra.Command{
		Use: "show FLAVOR", Short: "Show a flavor by name or id", Args: cobra.ExactArgs(1), ValidArgsFunction: a.complete(flavorNames),
		RunE: a.run(func(ctx context.Context, c *client.Client, args []string) error {
			f, err := findFlavor(ctx, c, args[0])
			if err != nil {
				return err
			}
			return a.show(flavorColumns, flavorRow(f))
		}),
	}
	return group("flavor", "Sizes of machines", list, show)
}

func (a *app) limitsCmd() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List what the project may use and how often it may ask", Args: cobra.NoArgs,
		RunE: a.run(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Limits(ctx)
			if err != nil {
				return err
			}
			return a.list([]string{"Limit", "Value", "Remaining"}, limitRows(all))
		}),
	}
	return group("limits", "Limits of the project", list)
}

func limitRows(all []wire.Limit) []row {
	var rows []row
	for _, l := range all {
		if l.Verb != "ABSOLUTE" {
			rows = append(rows, row{l.Verb + " " + l.URI + " per " + strings.ToLower(l.Unit), derefInt(l.Value), derefInt(l.Remaining)})
			continue
		}
		for _, m := range []struct {
			name  string
			value *int
		}{{"instances", l.MaxInstances}, {"ram (MiB)", l.MaxRAM}, {"volumes (GiB)", l.MaxVolumes}, {"backups", l.MaxBackups}} {
			if m.value != nil {
				rows = append(rows, row{m.name, *m.value, nil})
			}
		}
	}
	return rows
}

func derefInt(n *int) any {
	if n == nil {
		return nil
	}
	return *n
}

func (a *app) quotaCmd() *cobra.Command {
	show := &cobra.Command{
		Use: "show [PROJECT_ID]", Short: "Show what a project may use and uses", Args: cobra.MaximumNArgs(1),
		RunE: a.run(func(ctx context.Context, c *client.Client, args []string) error {
			project, err := c.ProjectID(ctx)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				project = args[0]
			}
			all, err := c.Quotas(ctx, project)
			if err != nil {
				return err
			}
			rows := make([]row, 0, len(all))
			for _, q := range all {
				rows = append(rows, row{q.Resource, q.InUse, q.Reserved, q.Limit})
			}
			return a.list([]string{"Resource", "In Use", "Reserved", "Limit"}, rows)
		}),
	}
	return group("quota", "Quotas of projects", show, a.quotaUpdate())
}

func (a *app) quotaUpdate() *cobra.Command {
	var none bool
	cmd := &cobra.Command{
		Use: "update PROJECT_ID RESOURCE LIMIT", Short: "Change a limit of a project, -1 for none (administrators)",
		Args: func(cmd *cobra.Command, args []string) error {
			if none {
				return cobra.ExactArgs(2)(cmd, args)
			}
			return cobra.ExactArgs(3)(cmd, args)
		},
		RunE: a.run(func(ctx context.Context, c *client.Client, args []string) error {
			limit := -1
			if !none {
				var err error
				if limit, err = strconv.Atoi(args[2]); err != nil {
					return usagef("LIMIT: %q is not a whole number.", args[2])
				}
			}
			return c.SetQuotas(ctx, args[0], map[string]int{args[1]: limit})
		}),
	}
	// A negative number looks like a flag, so it is one.
	cmd.Flags().BoolVarP(&none, "unlimited", "1", false, "no limit, in place of LIMIT")
	return cmd
}

func (a *app) operationCmd() *cobra.Command {
	list := a.onInstance(&cobra.Command{Use: "list INSTANCE", Short: "List what was and is being done to an instance", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, instance string, _ []string) error {
			all, err := c.Operations(ctx, instance)
			if err != nil {
				return err
			}
			rows := make([]row, 0, len(all))
			for _, o := range all {
				rows = append(rows, row{o.ID, o.Kind, o.State, o.Step, o.Percent, o.Sentence, o.Created.Format(wire.Layout), o.Error})
			}
			return a.list([]string{"ID", "Kind", "State", "Step", "Percent", "Sentence", "Created", "Error"}, rows)
		})
	show := a.onInstance(&cobra.Command{Use: "show INSTANCE OPERATION", Short: "Show the timeline of an operation", Args: cobra.ExactArgs(2)},
		func(ctx context.Context, c *client.Client, instance string, args []string) error {
			o, err := c.Operation(ctx, instance, args[0], 0, 0)
			if err != nil {
				return err
			}
			rows := make([]row, 0, len(o.Events))
			for _, e := range o.Events {
				rows = append(rows, row{e.At.Format("15:04:05.000"), e.Step, e.Outcome, e.Sentence})
			}
			return a.list([]string{"At", "Step", "Outcome", "Sentence"}, rows)
		})
	cancel := a.onInstance(&cobra.Command{Use: "cancel INSTANCE OPERATION", Short: "Stop an operation and undo what it did", Args: cobra.ExactArgs(2)},
		func(ctx context.Context, c *client.Client, instance string, args []string) error {
			return c.CancelOperation(ctx, instance, args[0])
		})
	return group("operation", "What is being done to an instance", list, show, cancel)
}
