package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
)

func (a *app) backupCmd() *cobra.Command {
	return group("backup", "Backups of instances, and where they go",
		a.backupList(), a.backupShow(), a.backupCreate(), a.backupDelete(), a.strategyCmd())
}

var backupColumns = []string{"ID", "Instance ID", "Name", "Status", "Parent ID", "Updated", "Project ID"}

func backupRows(all []wire.Backup) []row {
	rows := make([]row, 0, len(all))
	for _, b := range all {
		rows = append(rows, row{b.ID, cell(b.InstanceID), b.Name, b.Status, cell(b.ParentID), stamp(&b.Updated), b.ProjectID})
	}
	return rows
}

// cell is nil for a text that is null.
func cell(n wire.Nullable) any {
	if n == "" {
		return nil
	}
	return string(n)
}

func (a *app) backupList() *cobra.Command {
	var f client.BackupFilter
	var instance string
	cmd := &cobra.Command{
		Use: "list [instance INSTANCE]", Short: "List backups, those that changed last first", Args: pairOrNone("instance"),
		RunE: a.run(func(ctx context.Context, c *client.Client, args []string) error {
			if len(args) == 2 {
				instance = args[1]
			}
			if instance != "" {
				i, err := c.FindInstance(ctx, instance)
				if err != nil {
					return err
				}
				f.Instance = i.ID
			}
			list := c.Backups
			if len(args) == 2 {
				list = func(ctx context.Context, f client.BackupFilter) ([]wire.Backup, error) {
					return c.InstanceBackups(ctx, f.Instance, f)
				}
			}
			all, err := list(ctx, f)
			if err != nil {
				return err
			}
			return a.list(backupColumns, backupRows(all))
		}),
	}
	flags := cmd.Flags()
	flags.StringVarP(&instance, "instance", "i", "", "only those of this instance, by name or id")
	flags.StringVar(&f.Datastore, "datastore", "", "only those of this datastore, by name or id")
	flags.BoolVar(&f.AllProjects, "all-projects", false, "those of all projects (administrators)")
	flags.StringVar(&f.ProjectID, "project-id", "", "those of this project (administrators)")
	flags.IntVar(&f.Limit, "limit", 0, "the most to list (all)")
	flags.IntVar(&f.Marker, "marker", 0, "how many to leave out")
	_ = cmd.RegisterFlagCompletionFunc("instance", a.completeMany(instanceNames))
	_ = cmd.RegisterFlagCompletionFunc("datastore", a.completeMany(datastoreNames))
	return cmd
}

// pairOrNone takes no arguments, or the word and one more: what the openstack client has as a verb of its own.
func pairOrNone(word string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 || len(args) == 2 && args[0] == word {
			return nil
		}
		return usagef("Nothing, or %q and a name or id is expected.", word)
	}
}

func (a *app) showBackup(b wire.Backup) error {
	var size any
	if b.Size != nil {
		size = *b.Size
	}
	return a.show([]string{
		"id", "name", "description", "status", "instance_id", "parent_id", "datastore", "datastore_version", "size", "location", "project_id", "created",
		"updated",
	}, row{
		b.ID, b.Name, cell(b.Description), b.Status, cell(b.InstanceID), cell(b.ParentID), cell(b.Datastore.Type), cell(b.Datastore.Version), size,
		cell(b.Location), b.ProjectID, stamp(&b.Created), stamp(&b.Updated),
	})
}

func (a *app) backupShow() *cobra.Command {
	return &cobra.Command{
		Use: "show BACKUP", Short: "Show a backup by name or id", Args: cobra.ExactArgs(1), ValidArgsFunction: a.complete(backupNames),
		RunE: a.run(func(ctx context.Context, c *client.Client, args []string) error {
			b, err := c.FindBackup(ctx, args[0])
			if err != nil {
				return err
			}
			return a.showBackup(b)
		}),
	}
}

func backupNames(ctx context.Context, c *client.Client) ([]string, error) {
	all, err := c.Backups(ctx, client.BackupFilter{})
	names := make([]string, 0, len(all))
	for _, b := range all {
		names = append(names, b.Name)
	}
	return names, err
}

func (a *app) backupCreate() *cobra.Command {
	var spec wire.BackupCreate
	var instance, parent, from, version string
	var size float64
	var incremental bool
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Back an instance up, or register a backup that is there", Args: cobra.ExactArgs(1),
		RunE: a.run(func(ctx context.Context, c *client.Client, args []string) error {
			if (instance == "") == (from == "") {
				return usagef("Give either --instance or --restore-from.")
			}
			spec.Name = args[0]
			if instance != "" {
				i, err := c.FindInstance(ctx, instance)
				if err != nil {
					return err
				}
				spec.Instance = i.ID
			}
			if parent != "" {
				b, err := c.FindBackup(ctx, parent)
				if err != nil {
					return err
				}
				spec.ParentID = b.ID
			}
			if incremental {
				spec.Incremental = 1
			}
			if from != "" {
				spec.RestoreFrom = &wire.RestoreFrom{RemoteLocation: from, VersionID: version, Size: size}
			}
			b, err := c.CreateBackup(ctx, spec)
			if err != nil {
				return err
			}
			return a.showBackup(b)
		}),
	}
	f := cmd.Flags()
	f.StringVarP(&instance, "instance", "i", "", "instance, by name or id")
	f.StringVar(&spec.Description, "description", "", "what the backup is for")
	f.StringVar(&parent, "parent", "", "backup to build on, by name or id")
	f.BoolVar(&incremental, "incremental", false, "build on the instance's last backup")
	f.StringVar(&spec.Container, "swift-container", "", "container to keep it in (that of the backup strategy)")
	f.StringVar(&spec.StorageDriver, "storage-driver", "", "where backups are kept (the deployment's default)")
	f.StringVar(&from, "restore-from", "", "address of the object of a backup that is there")
	f.StringVar(&version, "restore-datastore-version", "", "id of the datastore version of that backup")
	f.Float64Var(&size, "restore-size", 0, "GiB that its data takes")
	cmd.MarkFlagsRequiredTogether("restore-from", "restore-datastore-version", "restore-size")
	cmd.MarkFlagsMutuallyExclusive("parent", "incremental")
	_ = cmd.RegisterFlagCompletionFunc("instance", a.completeMany(instanceNames))
	_ = cmd.RegisterFlagCompletionFunc("parent", a.completeMany(backupNames))
	return cmd
}

func (a *app) backupDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete BACKUP...", Short: "Delete backups with those that build on them", Args: cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeMany(backupNames),
		RunE: a.run(func(ctx context.Context, c *client.Client, args []string) error {
			for _, arg := range args {
				b, err := c.FindBackup(ctx, arg)
				if err != nil {
					return err
				}
				if err := c.DeleteBackup(ctx, b.ID); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}

var strategyColumns = []string{"Project ID", "Instance ID", "Swift Container"}

// strategyCmd names instances by id, as the openstack client does: a strategy may outlive or precede its instance.
func (a *app) strategyCmd() *cobra.Command {
	var instance, project, container string
	list := &cobra.Command{
		Use: "list", Short: "List the containers that backups go to", Args: cobra.NoArgs,
		RunE: a.run(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.BackupStrategies(ctx, instance, project)
			if err != nil {
				return err
			}
			rows := make([]row, 0, len(all))
			for _, s := range all {
				rows = append(rows, row{s.ProjectID, s.InstanceID, s.Container})
			}
			return a.list(strategyColumns, rows)
		}),
	}
	create := &cobra.Command{
		Use: "create", Short: "Name the container of an instance's backups, or of all the project's", Args: cobra.NoArgs,
		RunE: a.run(func(ctx context.Context, c *client.Client, _ []string) error {
			s, err := c.CreateBackupStrategy(ctx, instance, container)
			if err != nil {
				return err
			}
			return a.show(strategyColumns, row{s.ProjectID, s.InstanceID, s.Container})
		}),
	}
	del := &cobra.Command{
		Use: "delete", Short: "Delete the strategy of an instance, or the project's", Args: cobra.NoArgs,
		RunE: a.run(func(ctx context.Context, c *client.Client, _ []string) error {
			return c.DeleteBackupStrategy(ctx, instance, project)
		}),
	}
	for _, cmd := range []*cobra.Command{list, create, del} {
		cmd.Flags().StringVar(&instance, "instance-id", "", "id of an instance (the project's default)")
	}
	for _, cmd := range []*cobra.Command{list, del} {
		cmd.Flags().StringVar(&project, "project-id", "", "id of another project (administrators)")
	}
	create.Flags().StringVar(&container, "swift-container", "", "name of the container (required)")
	_ = create.MarkFlagRequired("swift-container")
	return group("strategy", "Where backups go", list, create, del)
}
