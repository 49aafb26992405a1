package cli

import (
	"context"
	"encoding/base64"
	"io"
	"os"

	"github.com/spf13/cobra"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
)

func (a *app) moduleCmd() *cobra.Command {
	return group("module", "Content for the guests of instances",
		a.moduleList(), a.moduleShow(), a.moduleCreate(), a.moduleUpdate(), a.moduleDelete(), a.moduleInstances(), a.moduleCount(),
		a.moduleReapply(), a.moduleApply(), a.moduleRemove(), a.moduleOf(), a.moduleRetrieve())
}

func moduleRows(all []wire.Module) []row {
	rows := make([]row, 0, len(all))
	for _, m := range all {
		rows = append(rows, row{m.ID, m.Name, m.Type, m.Datastore, m.DatastoreVersion, m.AutoApply, m.PriorityApply, m.ApplyOrder, m.IsAdmin, m.Tenant, m.Visible})
	}
	return rows
}

var moduleColumns = []string{
	"ID", "Name", "Type", "Datastore", "Datastore Version", "Auto Apply", "Priority Apply", "Apply Order", "Is Admin", "Tenant", "Visible",
}

func (a *app) moduleList() *cobra.Command {
	var datastore string
	cmd := &cobra.Command{
		Use: "list", Short: "List the modules of the project and those of all projects", Args: cobra.NoArgs,
		RunE: a.run(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Modules(ctx, datastore)
			if err != nil {
				return err
			}
			return a.list(moduleColumns, moduleRows(all))
		}),
	}
	cmd.Flags().StringVar(&datastore, "datastore", "", "only those for this datastore, by name or id; all: those for every datastore")
	_ = cmd.RegisterFlagCompletionFunc("datastore", a.completeMany(datastoreNames))
	return cmd
}

func moduleNames(ctx context.Context, c *client.Client) ([]string, error) {
	all, err := c.Modules(ctx, "")
	names := make([]string, 0, len(all))
	for _, m := range all {
		names = append(names, m.Name)
	}
	return names, err
}

// onModule makes a command whose first argument is a module.
func (a *app) onModule(cmd *cobra.Command, f func(ctx context.Context, c *client.Client, m wire.Module) error) *cobra.Command {
	cmd.Args, cmd.ValidArgsFunction = cobra.ExactArgs(1), a.complete(moduleNames)
	cmd.RunE = a.run(func(ctx context.Context, c *client.Client, args []string) error {
		m, err := c.FindModule(ctx, args[0])
		if err != nil {
			return err
		}
		return f(ctx, c, m)
	})
	return cmd
}

func (a *app) showModule(m wire.Module) error {
	columns := []string{
		"id", "name", "type", "description", "datastore", "datastore_version", "auto_apply", "priority_apply", "apply_order", "is_admin", "tenant", "visible",
		"md5", "created", "updated",
	}
	r := row{
		m.ID, m.Name, m.Type, cell(m.Description), m.Datastore, m.DatastoreVersion, m.AutoApply, m.PriorityApply, m.ApplyOrder, m.IsAdmin, m.Tenant, m.Visible,
		m.MD5, stamp(&m.Created), stamp(&m.Updated),
	}
	if m.LiveUpdate != nil {
		columns, r = append(columns, "live_update"), append(r, *m.LiveUpdate)
	}
	if m.InstanceCount != nil {
		columns, r = append(columns, "instance_count"), append(r, *m.InstanceCount)
	}
	return a.show(columns, r)
}

func (a *app) moduleShow() *cobra.Command {
	return a.onModule(&cobra.Command{Use: "show MODULE", Short: "Show a module by name or id"},
		func(_ context.Context, _ *client.Client, m wire.Module) error { return a.showModule(m) })
}

// moduleOptions are the flags of create and update.
type moduleOptions struct {
	change                                                       wire.ModuleChange
	datastore, version                                           string
	autoApply, allTenants, hidden, live, priority, full, all, av bool
	order                                                        int
}

func (o *moduleOptions) flags(a *app, cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.change.Description, "description", "", "what the module is for")
	f.StringVar(&o.datastore, "datastore", "", "datastore that it is for, by name or id")
	f.StringVar(&o.version, "datastore-version", "", "version that it is for, by name or id")
	f.BoolVar(&o.autoApply, "auto-apply", false, "apply it to new instances (administrators)")
	f.BoolVar(&o.allTenants, "all-tenants", false, "for all projects (administrators)")
	f.BoolVar(&o.hidden, "hidden", false, "hide it from projects (administrators)")
	f.BoolVar(&o.live, "live-update", false, "it may change while instances have it")
	f.BoolVar(&o.priority, "priority-apply", false, "apply it before others (administrators)")
	f.BoolVar(&o.full, "full-access", false, "let the project change what an administrator made (administrators)")
	f.IntVar(&o.order, "apply-order", 5, "0 to 9: the higher, the later it is applied")
	_ = cmd.RegisterFlagCompletionFunc("datastore", a.completeMany(datastoreNames))
}

// read takes over the flags that were given: what was not is left to the server.
func (o *moduleOptions) read(cmd *cobra.Command) wire.ModuleChange {
	given := cmd.Flags().Changed
	for _, b := range []struct {
		flag  string
		value bool
		field **int
	}{
		{"auto-apply", o.autoApply, &o.change.AutoApply},
		{"all-tenants", o.allTenants, &o.change.AllTenants},
		{"hidden", !o.hidden, &o.change.Visible},
		{"live-update", o.live, &o.change.LiveUpdate},
		{"priority-apply", o.priority, &o.change.PriorityApply},
		{"full-access", o.full, &o.change.FullAccess},
		{"all-datastores", o.all, &o.change.AllDatastores},
		{"all-datastore-versions", o.av, &o.change.AllDatastoreVersions},
	} {
		if given(b.flag) {
			*b.field = new(0)
			if b.value {
				*b.field = new(1)
			}
		}
	}
	if given("apply-order") {
		o.change.ApplyOrder = &o.order
	}
	if o.datastore != "" || o.version != "" {
		o.change.Datastore = &wire.ModuleDatastore{Type: o.datastore, Version: o.version}
	}
	return o.change
}

// maxModule bounds what is read of a module's file, in bytes: with base64 the request stays below what the server takes.
const maxModule = 700 << 10

// readModule reads a file, - for the standard input, and encodes it.
func (a *app) readModule(file string) (string, error) {
	in := a.env.Stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", trove.Wrap(trove.KindBadRequest, err, "The file %s cannot be read.", file)
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxModule+1))
	switch {
	case err != nil:
		return "", trove.Wrap(trove.KindBadRequest, err, "The file %s cannot be read.", file)
	case len(data) > maxModule:
		return "", trove.Errorf(trove.KindBadRequest, "The file %s is larger than %d KiB.", file, maxModule>>10)
	case len(data) == 0:
		return "", trove.Errorf(trove.KindBadRequest, "The file %s is empty.", file)
	}
	return base64.StdEncoding.EncodeToString(data), nil
}

func (a *app) moduleCreate() *cobra.Command {
	var o moduleOptions
	cmd := &cobra.Command{Use: "create NAME TYPE FILE", Short: "Create a module from a file, - for the standard input", Args: cobra.ExactArgs(3)}
	cmd.RunE = a.run(func(ctx context.Context, c *client.Client, args []string) error {
		change := o.read(cmd)
		change.Name, change.Type = args[0], args[1]
		var err error
		if change.Contents, err = a.readModule(args[2]); err != nil {
			return err
		}
		m, err := c.CreateModule(ctx, change)
		if err != nil {
			return err
		}
		return a.showModule(m)
	})
	o.flags(a, cmd)
	return cmd
}

func (a *app) moduleUpdate() *cobra.Command {
	var o moduleOptions
	var file string
	cmd := &cobra.Command{
		Use: "update MODULE", Short: "Change a module; what is not named stays",
		Long: "Change a module; what is not named stays. A flag such as --auto-apply is taken back with --auto-apply=false.",
	}
	a.onModule(cmd, func(ctx context.Context, c *client.Client, m wire.Module) error {
		change := o.read(cmd)
		if file != "" {
			var err error
			if change.Contents, err = a.readModule(file); err != nil {
				return err
			}
		}
		if change == (wire.ModuleChange{}) {
			return usagef("Nothing to change: name at least one flag.")
		}
		m, err := c.UpdateModule(ctx, m.ID, change)
		if err != nil {
			return err
		}
		return a.showModule(m)
	})
	o.flags(a, cmd)
	f := cmd.Flags()
	f.StringVar(&o.change.Name, "name", "", "new name")
	f.StringVar(&o.change.Type, "type", "", "new type")
	f.StringVar(&file, "file", "", "file with new contents, - for the standard input")
	f.BoolVar(&o.all, "all-datastores", false, "for every datastore")
	f.BoolVar(&o.av, "all-datastore-versions", false, "for every version")
	return cmd
}

func (a *app) moduleDelete() *cobra.Command {
	return a.onModule(&cobra.Command{Use: "delete MODULE", Short: "Delete a module that no instance has"},
		func(ctx context.Context, c *client.Client, m wire.Module) error { return c.DeleteModule(ctx, m.ID) })
}
