package cli

import (
	"context"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
)

func clusteredFlag(cmd *cobra.Command, clustered *bool) *cobra.Command {
	cmd.Flags().BoolVar(clustered, "include-clustered", false, "also members of clusters")
	return cmd
}

func (a *app) moduleInstances() *cobra.Command {
	var clustered bool
	return clusteredFlag(a.onModule(&cobra.Command{Use: "instances MODULE", Short: "List the instances that have a module"},
		func(ctx context.Context, c *client.Client, m wire.Module) error {
			all, err := c.ModuleInstances(ctx, m.ID, clustered)
			if err != nil {
				return err
			}
			rows := make([]row, 0, len(all))
			for _, i := range all {
				rows = append(rows, row{i.ID, i.Name, i.Status})
			}
			return a.list([]string{"ID", "Name", "Status"}, rows)
		}), &clustered)
}

func (a *app) moduleCount() *cobra.Command {
	var clustered bool
	return clusteredFlag(a.onModule(&cobra.Command{Use: "instance-count MODULE", Short: "Count the instances that have a module, by its contents"},
		func(ctx context.Context, c *client.Client, m wire.Module) error {
			all, err := c.ModuleCounts(ctx, m.ID, clustered)
			if err != nil {
				return err
			}
			rows := make([]row, 0, len(all))
			for _, n := range all {
				rows = append(rows, row{n.ModuleName, n.ModuleMD5, n.Current, n.InstanceCount, stamp(&n.MinUpdated), stamp(&n.MaxUpdated)})
			}
			return a.list([]string{"Module Name", "Module MD5", "Current", "Instance Count", "Min Updated Date", "Max Updated Date"}, rows)
		}), &clustered)
}

func (a *app) moduleReapply() *cobra.Command {
	var which wire.ModuleReapply
	var clustered, force bool
	cmd := clusteredFlag(a.onModule(&cobra.Command{Use: "reapply MODULE", Short: "Apply a module again to the instances that have it"},
		func(ctx context.Context, c *client.Client, m wire.Module) error {
			if clustered {
				which.IncludeClustered = 1
			}
			if force {
				which.Force = 1
			}
			return c.ReapplyModule(ctx, m.ID, which)
		}), &clustered)
	f := cmd.Flags()
	f.StringVar(&which.MD5, "md5", "", "only to those that have contents of this sum")
	f.IntVar(&which.BatchSize, "batch-size", 0, "how many at a time")
	f.IntVar(&which.BatchDelay, "delay", 0, "seconds between two batches")
	f.BoolVar(&force, "force", false, "also to those that have the present contents")
	return cmd
}

func (a *app) moduleApply() *cobra.Command {
	cmd := a.onInstance(&cobra.Command{Use: "apply INSTANCE MODULE...", Short: "Apply modules to an instance", Args: cobra.MinimumNArgs(2)},
		func(ctx context.Context, c *client.Client, instance string, args []string) error {
			var ids []string
			for _, arg := range args {
				m, err := c.FindModule(ctx, arg)
				if err != nil {
					return err
				}
				ids = append(ids, m.ID)
			}
			return c.ApplyModules(ctx, instance, ids...)
		})
	cmd.ValidArgsFunction = a.complete(instanceNames, moduleNames)
	return cmd
}

func (a *app) moduleRemove() *cobra.Command {
	cmd := a.onInstance(&cobra.Command{Use: "remove INSTANCE MODULE", Short: "Remove a module from an instance", Args: cobra.ExactArgs(2)},
		func(ctx context.Context, c *client.Client, instance string, args []string) error {
			m, err := c.FindModule(ctx, args[0])
			if err != nil {
				return err
			}
			return c.RemoveModule(ctx, instance, m.ID)
		})
	cmd.ValidArgsFunction = a.complete(instanceNames, moduleNames)
	return cmd
}

func (a *app) moduleOf() *cobra.Command {
	return a.onInstance(&cobra.Command{Use: "list-instance INSTANCE", Short: "List the modules that an instance has", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, instance string, _ []string) error {
			all, err := c.InstanceModules(ctx, instance, false)
			if err != nil {
				return err
			}
			return a.list(moduleColumns, moduleRows(all))
		})
}

// moduleRetrieve saves what was sent, which is base64 for what this client and the old shell made.
func (a *app) moduleRetrieve() *cobra.Command {
	var directory, prefix string
	cmd := a.onInstance(&cobra.Command{Use: "retrieve INSTANCE", Short: "Save the contents of the modules that an instance has", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, instance string, _ []string) error {
			all, err := c.InstanceModules(ctx, instance, true)
			if err != nil {
				return err
			}
			var rows []row
			for _, m := range all {
				if m.Contents == nil {
					continue
				}
				data, err := base64.StdEncoding.DecodeString(*m.Contents)
				if err != nil {
					data = []byte(*m.Contents)
				}
				name := strings.NewReplacer("/", "_", "\\", "_", "\x00", "_").Replace(prefix + m.Name + "_" + m.Datastore + "_" + m.DatastoreVersion)
				file := filepath.Join(directory, name)
				if err := os.WriteFile(file, data, 0o600); err != nil {
					return trove.Wrap(trove.KindUnavailable, err, "The file %s cannot be written.", file)
				}
				rows = append(rows, row{m.Name, file})
			}
			return a.list([]string{"Module Name", "File"}, rows)
		})
	cmd.Flags().StringVar(&directory, "directory", ".", "where to save them")
	cmd.Flags().StringVar(&prefix, "prefix", "", "what the names of the files begin with")
	return cmd
}
