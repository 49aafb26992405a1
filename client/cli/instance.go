package cli

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
)

func (a *app) instanceCmd() *cobra.Command {
	return group("instance", "Create, show, change and delete database instances",
		a.instanceList(), a.instanceShow(), a.instanceCreate(), a.instanceUpdate(), a.instanceDelete(),
		a.instanceRestart(), a.instanceStop(), a.instanceStart(), a.instanceResize(), a.instanceUpgrade(), a.instanceResetStatus(), a.instanceEvents(), a.instanceConnect(),
		a.instanceStorage(), a.instanceAutoscale(), a.instanceMetrics(), a.instanceStatements(), a.scrapeTokenCmd(), a.mgmtReboot(), a.mgmtRebuild())
}

var instanceColumns = []string{"ID", "Name", "Datastore", "Datastore Version", "Status", "Operating Status", "Public", "Addresses", "Flavor ID", "Size", "Role"}

func (a *app) instanceList() *cobra.Command {
	var everywhere bool
	var project string
	cmd := &cobra.Command{
		Use: "list", Short: "List the instances of the project, or of all of them", Args: cobra.NoArgs,
		RunE: a.run(func(ctx context.Context, c *client.Client, _ []string) error {
			list := c.AllInstances
			if everywhere || project != "" {
				list = func(ctx context.Context) ([]wire.Instance, error) { return livingOf(ctx, c, project) }
			}
			all, err := list(ctx)
			if err != nil {
				return err
			}
			columns, rows := instanceColumns, make([]row, 0, len(all))
			if everywhere || project != "" {
				columns = append(slices.Clone(columns), "Tenant ID")
			}
			for _, i := range all {
				r := row{
					i.ID, i.Name, deref(i.Datastore.Type), deref(i.Datastore.Version), i.Status, i.OperatingStatus, isPublic(i),
					addresses(i), i.Flavor.ID, size(i), role(i), i.TenantID,
				}
				rows = append(rows, r[:len(columns)])
			}
			return a.list(columns, rows)
		}),
	}
	cmd.Flags().BoolVar(&everywhere, "all-projects", false, "of all projects (administrators)")
	cmd.Flags().StringVar(&project, "project-id", "", "of this project (administrators)")
	return cmd
}

// livingOf lists the living instances of a project, "" for all, as an administrator sees them.
func livingOf(ctx context.Context, c *client.Client, project string) ([]wire.Instance, error) {
	deleted := false
	all, err := c.AllManagedInstances(ctx, client.ManagedOptions{Deleted: &deleted, Project: project})
	if err != nil {
		return nil, err
	}
	out := make([]wire.Instance, 0, len(all))
	for _, i := range all {
		out = append(out, withSize(i))
	}
	return out, nil
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func isPublic(i wire.Instance) bool { return i.Access.IsPublic != nil && *i.Access.IsPublic }

// addresses are where clients connect to, with the port where it is not the engine's own: as programs take it.
func addresses(i wire.Instance) []string {
	list := make([]string, 0, len(i.Addresses))
	for _, a := range i.Addresses {
		if a.Port == 0 {
			list = append(list, a.Address)
		} else {
			list = append(list, net.JoinHostPort(a.Address, strconv.Itoa(a.Port)))
		}
	}
	return list
}

func size(i wire.Instance) any {
	if i.Volume == nil {
		return nil
	}
	return i.Volume.Size
}

func role(i wire.Instance) string {
	switch {
	case i.ReplicaOf != nil:
		return "replica"
	case len(i.Replicas) > 0:
		return "primary"
	}
	return ""
}

func stamp(t *wire.Time) string {
	if t == nil || time.Time(*t).IsZero() {
		return ""
	}
	return time.Time(*t).Format(wire.Layout)
}

func (a *app) instanceShow() *cobra.Command {
	return &cobra.Command{
		Use: "show INSTANCE", Short: "Show an instance by name or id", Args: cobra.ExactArgs(1), ValidArgsFunction: a.complete(instanceNames),
		RunE: a.run(func(ctx context.Context, c *client.Client, args []string) error {
			i, err := c.FindInstance(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showInstance(i)
		}),
	}
}

func (a *app) showInstance(i wire.Instance, extra ...any) error {
	columns := []string{
		"id", "name", "status", "operating_status", "datastore", "datastore_version", "flavor", "volume", "volume_used",
		"addresses", "public", "allowed_cidrs", "region", "created", "updated",
	}
	r := row{
		i.ID, i.Name, i.Status, i.OperatingStatus, deref(i.Datastore.Type), deref(i.Datastore.Version), i.Flavor.ID, size(i), nil,
		addresses(i), isPublic(i), i.Access.AllowedCIDRs, i.Region, stamp(i.Created), stamp(i.Updated),
	}
	if i.Volume != nil && i.Volume.Used != nil {
		r[8] = *i.Volume.Used
	}
	if i.StorageAlarm != "" {
		columns, r = append(columns, "storage_alarm"), append(r, i.StorageAlarm)
	}
	if i.Configuration != nil {
		columns, r = append(columns, "configuration"), append(r, i.Configuration.Name)
	}
	if i.Fault != nil {
		columns, r = append(columns, "fault", "fault_date"), append(r, i.Fault.Message, stamp(&i.Fault.Created))
	}
	for n := 0; n+1 < len(extra); n += 2 {
		name, _ := extra[n].(string)
		columns, r = append(columns, name), append(r, extra[n+1])
	}
	return a.show(columns, r)
}

func (a *app) instanceDelete() *cobra.Command {
	var wait, force bool
	cmd := &cobra.Command{
		Use: "delete INSTANCE...", Short: "Delete instances with all their data", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeMany(instanceNames),
		RunE: a.run(func(ctx context.Context, c *client.Client, args []string) error {
			for _, arg := range args {
				i, err := c.FindInstance(ctx, arg)
				if err != nil {
					return err
				}
				if force {
					if err := c.ForceDelete(ctx, i.ID); err != nil {
						return err
					}
				}
				var op string
				if err := c.DeleteInstance(client.Began(ctx, &op), i.ID); err != nil {
					return err
				}
				if wait {
					if err := a.waitGone(ctx, c, i, op); err != nil {
						return err
					}
				}
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&force, "force", false, "clear what is being done to them before")
	waitFlag(cmd, &wait, "return when the instances are gone")
	return cmd
}

func waitFlag(cmd *cobra.Command, wait *bool, usage string) {
	cmd.Flags().BoolVar(wait, "wait", false, usage)
}

// act makes a command that asks for something long on one instance and may wait for it.
func (a *app) act(cmd *cobra.Command, ask func(ctx context.Context, c *client.Client, i wire.Instance, args []string) error) *cobra.Command {
	var wait bool
	if cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = a.complete(instanceNames)
	}
	cmd.RunE = a.run(func(ctx context.Context, c *client.Client, args []string) error {
		i, err := c.FindInstance(ctx, args[0])
		if err != nil {
			return err
		}
		var op string
		if err := ask(client.Began(ctx, &op), c, i, args[1:]); err != nil || !wait {
			return err
		}
		return a.wait(ctx, c, i, op)
	})
	waitFlag(cmd, &wait, "return when it is done, and show what goes on")
	return cmd
}

func (a *app) instanceRestart() *cobra.Command {
	return a.act(&cobra.Command{Use: "restart INSTANCE", Short: "Restart the database server", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, i wire.Instance, _ []string) error {
			return c.RestartInstance(ctx, i.ID)
		})
}

func (a *app) instanceStop() *cobra.Command {
	return a.act(&cobra.Command{
		Use: "stop INSTANCE", Short: "Stop the database server and its machine", Args: cobra.ExactArgs(1),
		Long: `Stop the database server and its machine. Data, addresses and quota stay; memory and cores of the host are free for others meanwhile. The instance
shows SHUTDOWN until "trove instance start", also after a restart of the host. A stopped instance can be resized and deleted.`,
	}, func(ctx context.Context, c *client.Client, i wire.Instance, _ []string) error {
		return c.StopInstance(ctx, i.ID)
	})
}

func (a *app) instanceStart() *cobra.Command {
	return a.act(&cobra.Command{Use: "start INSTANCE", Short: "Start an instance that was stopped", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, i wire.Instance, _ []string) error {
			return c.StartInstance(ctx, i.ID)
		})
}

func (a *app) instanceResize() *cobra.Command {
	flavor := a.act(&cobra.Command{Use: "flavor INSTANCE FLAVOR", Short: "Give the instance another flavor", Args: cobra.ExactArgs(2), ValidArgsFunction: a.complete(instanceNames, flavorNames)},
		func(ctx context.Context, c *client.Client, i wire.Instance, args []string) error {
			f, err := findFlavor(ctx, c, args[0])
			if err != nil {
				return err
			}
			return c.ResizeFlavor(ctx, i.ID, f.StrID)
		})
	volume := a.act(&cobra.Command{Use: "volume INSTANCE GIB", Short: "Grow the data volume, online", Args: cobra.ExactArgs(2)},
		func(ctx context.Context, c *client.Client, i wire.Instance, args []string) error {
			gib, err := strconv.Atoi(args[0])
			if err != nil {
				return usagef("GIB: %q is not a whole number.", args[0])
			}
			return c.ResizeVolume(ctx, i.ID, gib)
		})
	return group("resize", "Change the flavor or grow the volume", flavor, volume)
}

func (a *app) instanceResetStatus() *cobra.Command {
	return &cobra.Command{
		Use: "reset-status INSTANCE", Short: "Clear a task that is stuck (administrators)", Args: cobra.ExactArgs(1), ValidArgsFunction: a.complete(instanceNames),
		RunE: a.run(func(ctx context.Context, c *client.Client, args []string) error {
			i, err := c.FindInstance(ctx, args[0])
			if err != nil {
				return err
			}
			return c.ResetStatus(ctx, i.ID)
		}),
	}
}

func (a *app) instanceUpdate() *cobra.Command {
	var name string
	var public, private, remove bool
	var configuration string
	var cidrs []string
	cmd := &cobra.Command{Use: "update INSTANCE", Short: "Change the name, the configuration group or who may reach the instance", Args: cobra.ExactArgs(1)}
	cmd.Flags().StringVar(&name, "name", "", "new name")
	cmd.Flags().StringVar(&configuration, "configuration", "", "configuration group to attach, by name or id")
	cmd.Flags().BoolVar(&remove, "remove-configuration", false, "detach the configuration group")
	cmd.Flags().BoolVar(&public, "is-public", false, "reachable from outside")
	cmd.Flags().BoolVar(&private, "is-private", false, "not reachable from outside")
	cmd.Flags().StringSliceVar(&cidrs, "allowed-cidr", nil, "address range that may connect (may be repeated)")
	cmd.MarkFlagsMutuallyExclusive("is-public", "is-private")
	cmd.MarkFlagsMutuallyExclusive("configuration", "remove-configuration")
	a.act(cmd, func(ctx context.Context, c *client.Client, i wire.Instance, _ []string) error {
		var change wire.InstanceUpdate
		if name != "" {
			change.Name = &name
		}
		if public || private || cmd.Flags().Changed("allowed-cidr") {
			change.Access = &wire.AccessRequest{}
			if public || private {
				change.Access.IsPublic = &public
			}
			if cmd.Flags().Changed("allowed-cidr") {
				change.Access.AllowedCIDRs = &cidrs
			}
		}
		switch {
		case remove:
			change.Configuration = wire.SetConfiguration("")
		case configuration != "":
			g, err := c.FindConfiguration(ctx, configuration)
			if err != nil {
				return err
			}
			change.Configuration = wire.SetConfiguration(g.ID)
		}
		if change == (wire.InstanceUpdate{}) {
			return usagef("Nothing to change: give --name, --configuration, --remove-configuration, --is-public, --is-private or --allowed-cidr.")
		}
		return c.UpdateInstance(ctx, i.ID, change)
	})
	return cmd
}

// findFlavor finds a flavor by id or name.
func findFlavor(ctx context.Context, c *client.Client, idOrName string) (wire.Flavor, error) {
	all, err := c.Flavors(ctx)
	if err != nil {
		return wire.Flavor{}, err
	}
	names := make([]string, 0, len(all))
	for _, f := range all {
		if f.StrID == idOrName || f.Name == idOrName {
			return f, nil
		}
		names = append(names, f.Name)
	}
	return wire.Flavor{}, trove.Errorf(trove.KindNotFound, "There is no flavor %q; there are %s.", idOrName, strings.Join(names, ", "))
}
