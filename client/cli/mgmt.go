package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
)

func (a *app) mgmtCmd() *cobra.Command {
	return group("mgmt", "Instances of all projects, their machines and guests (administrators)",
		a.mgmtList(), a.mgmtShow(), a.mgmtStop(), a.mgmtReboot(), a.mgmtRebuild(), a.mgmtMigrate(), a.mgmtResetTask(),
		a.mgmtRoot(), a.mgmtPing(), a.mgmtHardware(), a.mgmtDiagnostics())
}

// findManaged finds an instance of any project by id, or by a name that only one has.
func findManaged(ctx context.Context, c *client.Client, idOrName string) (wire.MgmtInstance, error) {
	if trove.ValidID(idOrName) {
		if i, err := c.ManagedInstance(ctx, idOrName, false); err == nil || !client.IsNotFound(err) {
			return i, err
		}
	}
	living := false
	all, err := c.AllManagedInstances(ctx, client.ManagedOptions{Deleted: &living})
	if err != nil {
		return wire.MgmtInstance{}, err
	}
	all = slices.DeleteFunc(all, func(i wire.MgmtInstance) bool { return i.Name != idOrName })
	switch len(all) {
	case 0:
		return wire.MgmtInstance{}, trove.Errorf(trove.KindNotFound, "There is no instance with the id or name %q in any project; `trove mgmt list` shows all.", idOrName)
	case 1:
		return all[0], nil
	}
	return wire.MgmtInstance{}, trove.Errorf(trove.KindConflict, "%d instances have the name %q; use an id: %s, %s.", len(all), idOrName, all[0].ID, all[1].ID)
}

// onManaged makes a command that does something with one instance of any project.
func (a *app) onManaged(cmd *cobra.Command, do func(ctx context.Context, c *client.Client, i wire.MgmtInstance, args []string) error) *cobra.Command {
	cmd.RunE = a.run(func(ctx context.Context, c *client.Client, args []string) error {
		i, err := findManaged(ctx, c, args[0])
		if err != nil {
			return err
		}
		return do(ctx, c, i, args[1:])
	})
	return cmd
}

// manage makes a command that begins something long and may wait for it.
func (a *app) manage(cmd *cobra.Command, ask func(ctx context.Context, c *client.Client, id string, args []string) error) *cobra.Command {
	var wait bool
	a.onManaged(cmd, func(ctx context.Context, c *client.Client, i wire.MgmtInstance, args []string) error {
		var op string
		if err := ask(client.Began(ctx, &op), c, i.ID, args); err != nil || !wait {
			return err
		}
		return a.wait(ctx, c, i.Instance, op)
	})
	waitFlag(cmd, &wait, "return when it is done, and show what goes on")
	return cmd
}

func (a *app) mgmtList() *cobra.Command {
	var o client.ManagedOptions
	var deleted, living bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the instances of all projects, the last changed first", Args: cobra.NoArgs,
		RunE: a.run(func(ctx context.Context, c *client.Client, _ []string) error {
			if deleted || living {
				o.Deleted = &deleted
			}
			all, err := c.AllManagedInstances(ctx, o)
			if err != nil {
				return err
			}
			rows := make([]row, 0, len(all))
			for _, i := range all {
				host := ""
				if i.Server != nil {
					host = string(i.Server.Host)
				}
				rows = append(rows, row{
					i.ID, i.Name, i.TenantID, deref(i.Datastore.Type), deref(i.Datastore.Version), i.Status, i.OperatingStatus, i.TaskDescription, host, i.Deleted,
				})
			}
			return a.list([]string{"ID", "Name", "Tenant ID", "Datastore", "Datastore Version", "Status", "Operating Status", "Task", "Host", "Deleted"}, rows)
		}),
	}
	cmd.Flags().StringVar(&o.Project, "project-id", "", "only instances of this project")
	cmd.Flags().BoolVar(&deleted, "deleted", false, "only deleted ones")
	cmd.Flags().BoolVar(&living, "living", false, "no deleted ones")
	cmd.MarkFlagsMutuallyExclusive("deleted", "living")
	return cmd
}

func (a *app) mgmtShow() *cobra.Command {
	var deleted bool
	cmd := &cobra.Command{
		Use: "show INSTANCE", Short: "Show an instance with what the cloud and the guest say of it", Args: cobra.ExactArgs(1),
		RunE: a.run(func(ctx context.Context, c *client.Client, args []string) error {
			if deleted {
				i, err := c.ManagedInstance(ctx, args[0], true)
				if err != nil {
					return err
				}
				return a.showManaged(i)
			}
			i, err := findManaged(ctx, c, args[0])
			if err == nil {
				i, err = c.ManagedInstance(ctx, i.ID, false)
			}
			if err != nil {
				return err
			}
			return a.showManaged(i)
		}),
	}
	cmd.Flags().BoolVar(&deleted, "deleted", false, "INSTANCE is the id of one that was deleted")
	return cmd
}

func (a *app) showManaged(i wire.MgmtInstance) error {
	extra := []any{
		"tenant_id", i.TenantID, "service_status", i.ServiceStatus, "task_description", i.TaskDescription, "deleted", i.Deleted, "deleted_at", stamp(i.DeletedAt),
	}
	if i.Server != nil {
		extra = append(extra, "server_id", i.Server.ID, "server_status", i.Server.Status, "host", string(i.Server.Host))
	}
	i.Instance = withSize(i)
	if v, ok := i.Volume.(map[string]any); ok {
		extra = append(extra, "volume_id", v["id"], "volume_status", v["status"], "volume_space_used", v["used"], "volume_space", v["total"])
	}
	if i.RootEnabled != nil {
		extra = append(extra, "root_enabled", stamp(i.RootEnabled), "root_enabled_by", i.RootEnabledBy)
	}
	return a.showInstance(i.Instance, extra...)
}

// withSize returns the instance with the size of its volume, which administrators get in another form.
func withSize(i wire.MgmtInstance) wire.Instance {
	out := i.Instance
	if v, ok := i.Volume.(map[string]any); ok {
		gib, _ := v["size"].(float64)
		out.Volume = &wire.Volume{Size: int(gib)}
	}
	return out
}

func (a *app) mgmtStop() *cobra.Command {
	return a.manage(&cobra.Command{
		Use: "stop INSTANCE", Short: "Stop the database server and leave its machine alone", Args: cobra.ExactArgs(1),
		Long: "Stop the database server and leave its machine alone. `trove instance restart` brings it up again; `trove instance stop` stops the machine too.",
	}, func(ctx context.Context, c *client.Client, id string, _ []string) error { return c.StopEngine(ctx, id) })
}

func (a *app) mgmtReboot() *cobra.Command {
	return a.manage(&cobra.Command{Use: "reboot INSTANCE", Short: "Start the machine afresh, and the database server in it", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, id string, _ []string) error {
			return c.RebootInstance(ctx, id)
		})
}

func (a *app) mgmtRebuild() *cobra.Command {
	return a.manage(&cobra.Command{
		Use: "rebuild INSTANCE IMAGE", Short: "Make the machine anew from an image; the data stays", Args: cobra.ExactArgs(2),
		Long: `Make the machine anew from an image, such as one that was built since with fixes of the system under the database. The volume stays, and with it the data. The
image has to be the one of the instance's datastore version: ` + "`trove datastore version show`" + ` names it.`,
	}, func(ctx context.Context, c *client.Client, id string, args []string) error {
		return c.RebuildInstance(ctx, id, args[0])
	})
}

func (a *app) mgmtMigrate() *cobra.Command {
	var host string
	cmd := a.manage(&cobra.Command{Use: "migrate INSTANCE", Short: "Move the machine to another host, where the cloud has several", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, id string, _ []string) error {
			return c.MigrateInstance(ctx, id, host)
		})
	cmd.Flags().StringVar(&host, "host", "", "where to (any other host)")
	return cmd
}

func (a *app) mgmtResetTask() *cobra.Command {
	return a.onManaged(&cobra.Command{Use: "reset-task INSTANCE", Short: "Clear a task that is stuck, and cancel what it stands for", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, i wire.MgmtInstance, _ []string) error {
			return c.ResetTask(ctx, i.ID)
		})
}

func (a *app) mgmtRoot() *cobra.Command {
	return a.onManaged(&cobra.Command{Use: "root INSTANCE", Short: "Show when the superuser was enabled last, and by whom", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, i wire.MgmtInstance, _ []string) error {
			h, err := c.RootHistory(ctx, i.ID)
			if err != nil {
				return err
			}
			return a.show([]string{"id", "enabled", "user"}, row{h.ID, h.Enabled, h.User})
		})
}

func (a *app) mgmtPing() *cobra.Command {
	return a.onManaged(&cobra.Command{Use: "ping INSTANCE", Short: "Ask the guest agent for an answer", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, i wire.MgmtInstance, _ []string) error {
			if err := c.PingGuest(ctx, i.ID); err != nil {
				return err
			}
			fmt.Fprintf(a.env.Stdout, "The guest of %s answers.\n", strings.TrimSpace(i.Name))
			return nil
		})
}

func (a *app) mgmtHardware() *cobra.Command {
	return a.onManaged(&cobra.Command{Use: "hwinfo INSTANCE", Short: "Ask the guest how much memory (KiB) and how many cores it has", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, i wire.MgmtInstance, _ []string) error {
			h, err := c.Hardware(ctx, i.ID)
			if err != nil {
				return err
			}
			return a.show([]string{"mem_total", "num_cpus"}, row{h.MemTotal, h.NumCPUs})
		})
}

func (a *app) mgmtDiagnostics() *cobra.Command {
	return a.onManaged(&cobra.Command{Use: "diagnostics INSTANCE", Short: "Ask the guest agent for the figures of its process (memory in KiB)", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, i wire.MgmtInstance, _ []string) error {
			d, err := c.Diagnostics(ctx, i.ID)
			if err != nil {
				return err
			}
			return a.show([]string{"version", "threads", "fd_size", "vm_size", "vm_peak", "vm_rss", "vm_hwm"},
				row{d.Version, d.Threads, d.FDSize, d.VMSize, d.VMPeak, d.VMRSS, d.VMHWM})
		})
}
