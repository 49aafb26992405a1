package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
)

func (a *app) configurationCmd() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List the configuration groups", Args: cobra.NoArgs,
		RunE: a.run(func(ctx context.Context, c *client.Client, _ []string) error {
			all, err := c.Configurations(ctx)
			if err != nil {
				return err
			}
			rows := make([]row, 0, len(all))
			for _, g := range all {
				rows = append(rows, row{g.ID, g.Name, string(g.Description), g.DatastoreName, g.DatastoreVersionName})
			}
			return a.list([]string{"ID", "Name", "Description", "Datastore Name", "Datastore Version Name"}, rows)
		}),
	}
	show := a.onGroup(&cobra.Command{Use: "show CONFIGURATION", Short: "Show a configuration group", Args: cobra.ExactArgs(1)},
		func(_ context.Context, _ *client.Client, g wire.ConfigurationGroup, _ []string) error {
			return a.showGroup(g)
		})
	remove := a.onGroup(&cobra.Command{Use: "delete CONFIGURATION", Short: "Delete a configuration group that no instance has", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, g wire.ConfigurationGroup, _ []string) error {
			return c.DeleteConfiguration(ctx, g.ID)
		})
	instances := a.onGroup(&cobra.Command{Use: "instances CONFIGURATION", Short: "List the instances that have a configuration group", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, g wire.ConfigurationGroup, _ []string) error {
			all, err := c.ConfiguredInstances(ctx, g.ID)
			if err != nil {
				return err
			}
			rows := make([]row, 0, len(all))
			for _, i := range all {
				rows = append(rows, row{i.ID, i.Name})
			}
			return a.list([]string{"ID", "Name"}, rows)
		})
	return group("configuration", "Groups of parameters for databases", list, show, a.groupCreate(), a.groupSet(), a.groupMerge("update"), remove, a.groupAttach(),
		a.groupDetach(), instances, a.groupDefault(), a.groupDrift(),
		group("parameter", "Parameters that configuration groups may have", a.parameterList(), a.parameterShow(), a.groupMerge("set")))
}

// onGroup makes a command about one configuration group, its first argument.
func (a *app) onGroup(cmd *cobra.Command, f func(ctx context.Context, c *client.Client, g wire.ConfigurationGroup, args []string) error) *cobra.Command {
	cmd.ValidArgsFunction = a.complete(configurationNames)
	cmd.RunE = a.run(func(ctx context.Context, c *client.Client, args []string) error {
		g, err := c.FindConfiguration(ctx, args[0])
		if err != nil {
			return err
		}
		return f(ctx, c, g, args[1:])
	})
	return cmd
}

func configurationNames(ctx context.Context, c *client.Client) ([]string, error) {
	all, err := c.Configurations(ctx)
	names := make([]string, 0, len(all))
	for _, g := range all {
		names = append(names, g.Name)
	}
	return names, err
}

func (a *app) showGroup(g wire.ConfigurationGroup) error {
	values, count := "{}", any(nil)
	if g.Values != nil {
		text, err := json.Marshal(*g.Values)
		if err != nil {
			return fmt.Errorf("show the values: %w", err)
		}
		values = string(text)
	}
	if g.InstanceCount != nil {
		count = *g.InstanceCount
	}
	return a.show([]string{
		"id", "name", "description", "values", "instance_count", "datastore_name", "datastore_version_id", "datastore_version_name",
		"datastore_version_number", "created", "updated",
	}, row{
		g.ID, g.Name, string(g.Description), values, count, g.DatastoreName, g.DatastoreVersionID, g.DatastoreVersionName, g.DatastoreVersionNumber,
		time.Time(g.Created).Format(wire.Layout), time.Time(g.Updated).Format(wire.Layout),
	})
}

// maxValuesText bounds what is read of values, in bytes.
const maxValuesText = 1 << 20

// values reads the argument VALUES. Numbers keep all their digits.
func (a *app) values(arg string) (map[string]any, error) {
	if arg == "-" {
		data, err := io.ReadAll(io.LimitReader(a.env.Stdin, maxValuesText))
		if err != nil {
			return nil, trove.Wrap(trove.KindBadRequest, err, "The values cannot be read from the standard input.")
		}
		arg = string(data)
	}
	dec := json.NewDecoder(bytes.NewReader([]byte(arg)))
	dec.UseNumber()
	var values map[string]any
	if err := dec.Decode(&values); err != nil || values == nil {
		return nil, usagef("VALUES: %q is not a JSON object, such as '{\"max_connections\": 500}'.", arg)
	}
	return values, nil
}

func (a *app) groupCreate() *cobra.Command {
	var spec wire.ConfigurationCreate
	var store wire.DatastoreChoice
	cmd := &cobra.Command{
		Use: "create NAME VALUES", Short: "Create a configuration group", Args: cobra.ExactArgs(2),
		RunE: a.run(func(ctx context.Context, c *client.Client, args []string) (err error) {
			spec.Name = args[0]
			if spec.Values, err = a.values(args[1]); err != nil {
				return err
			}
			if store != (wire.DatastoreChoice{}) {
				spec.Datastore = &store
			}
			g, err := c.CreateConfiguration(ctx, spec)
			if err != nil {
				return err
			}
			return a.showGroup(g)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&spec.Description, "description", "", "what it is for")
	f.StringVar(&store.Type, "datastore", "", "datastore (the deployment's default)")
	f.StringVar(&store.Version, "datastore-version", "", "version of the datastore (its default)")
	f.StringVar(&store.VersionNumber, "datastore-version-number", "", "number of the version, where several have the same name")
	_ = cmd.RegisterFlagCompletionFunc("datastore", a.completeMany(datastoreNames))
	return cmd
}

func (a *app) groupSet() *cobra.Command {
	var name, description string
	cmd := a.onGroup(&cobra.Command{
		Use: "set CONFIGURATION VALUES", Short: "Replace all values of a configuration group, in the databases that have it too", Args: cobra.ExactArgs(2),
	}, func(ctx context.Context, c *client.Client, g wire.ConfigurationGroup, args []string) error {
		values, err := a.values(args[0])
		if err != nil {
			return err
		}
		change := wire.ConfigurationUpdate{Values: &values}
		if name != "" {
			change.Name = &name
		}
		if description != "" {
			change.Description = &description
		}
		return c.ReplaceConfiguration(ctx, g.ID, change)
	})
	cmd.Flags().StringVar(&name, "name", "", "new name")
	cmd.Flags().StringVar(&description, "description", "", "new description")
	return cmd
}

// groupMerge is there twice: as `configuration update`, and under the name that it has in the openstack client.
func (a *app) groupMerge(use string) *cobra.Command {
	return a.onGroup(&cobra.Command{
		Use: use + " CONFIGURATION VALUES", Short: "Set some values of a configuration group, in the databases that have it too", Args: cobra.ExactArgs(2),
	}, func(ctx context.Context, c *client.Client, g wire.ConfigurationGroup, args []string) error {
		values, err := a.values(args[0])
		if err != nil {
			return err
		}
		return c.MergeConfiguration(ctx, g.ID, values)
	})
}

func (a *app) groupAttach() *cobra.Command {
	cmd := a.onInstance(&cobra.Command{Use: "attach INSTANCE CONFIGURATION", Short: "Give an instance a configuration group", Args: cobra.ExactArgs(2)},
		func(ctx context.Context, c *client.Client, instance string, args []string) error {
			g, err := c.FindConfiguration(ctx, args[0])
			if err != nil {
				return err
			}
			return c.AttachConfiguration(ctx, instance, g.ID)
		})
	cmd.ValidArgsFunction = a.complete(instanceNames, configurationNames)
	return cmd
}

func (a *app) groupDetach() *cobra.Command {
	return a.onInstance(&cobra.Command{Use: "detach INSTANCE", Short: "Take an instance's configuration group", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, instance string, _ []string) error {
			return c.DetachConfiguration(ctx, instance)
		})
}

func (a *app) groupDrift() *cobra.Command {
	return a.onInstance(&cobra.Command{Use: "drift INSTANCE", Short: "Show which parameters somebody changed in the running database", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, instance string, _ []string) error {
			all, err := c.Drift(ctx, instance)
			if err != nil {
				return err
			}
			rows := make([]row, 0, len(all))
			for _, d := range all {
				rows = append(rows, row{d.Name, d.Wanted, d.Actual})
			}
			return a.list([]string{"Name", "Wanted", "Actual"}, rows)
		})
}

func (a *app) groupDefault() *cobra.Command {
	return a.onInstance(&cobra.Command{Use: "default INSTANCE", Short: "Show what an instance has without a configuration group", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, instance string, _ []string) error {
			values, err := c.DefaultConfiguration(ctx, instance)
			if err != nil {
				return err
			}
			columns := slices.Sorted(maps.Keys(values))
			r := make(row, 0, len(columns))
			for _, name := range columns {
				r = append(r, fmt.Sprint(values[name]))
			}
			return a.show(columns, r)
		})
}

func limit(n *json.Number) any {
	if n == nil {
		return nil
	}
	return n.String()
}

func parameterRow(p wire.Parameter) row {
	return row{p.Name, p.Type, limit(p.Min), limit(p.Max), p.RestartRequired}
}

func (a *app) parameterList() *cobra.Command {
	var datastore string
	cmd := &cobra.Command{
		Use: "list VERSION", Short: "List the parameters of a datastore version; without --datastore VERSION is an id", Args: cobra.ExactArgs(1),
		RunE: a.run(func(ctx context.Context, c *client.Client, args []string) error {
			all, err := c.Parameters(ctx, datastore, args[0])
			if err != nil {
				return err
			}
			rows := make([]row, 0, len(all))
			for _, p := range all {
				rows = append(rows, parameterRow(p))
			}
			return a.list([]string{"Name", "Type", "Min Size", "Max Size", "Restart Required"}, rows)
		}),
	}
	cmd.Flags().StringVar(&datastore, "datastore", "", "datastore, by name or id")
	return cmd
}

func (a *app) parameterShow() *cobra.Command {
	var datastore string
	cmd := &cobra.Command{
		Use: "show VERSION PARAMETER", Short: "Show a parameter of a datastore version; without --datastore VERSION is an id", Args: cobra.ExactArgs(2),
		RunE: a.run(func(ctx context.Context, c *client.Client, args []string) error {
			p, err := c.Parameter(ctx, datastore, args[0], args[1])
			if err != nil {
				return err
			}
			return a.show([]string{"name", "type", "min_size", "max_size", "restart_required"}, parameterRow(p))
		}),
	}
	cmd.Flags().StringVar(&datastore, "datastore", "", "datastore, by name or id")
	return cmd
}

// truth reads a flag that is a word in the openstack client.
func truth(flag, text string) (bool, error) {
	switch strings.ToLower(text) {
	case "true":
		return true, nil
	case "false", "":
		return false, nil
	}
	return false, usagef("--%s: %q is neither true nor false.", flag, text)
}

func (a *app) versionCreate() *cobra.Command {
	var spec wire.VersionCreate
	var active, byDefault string
	cmd := &cobra.Command{
		Use: "create NAME DATASTORE MANAGER IMAGE", Short: "Create a datastore version, and the datastore if it is not there (administrators)",
		Args: cobra.ExactArgs(4),
		RunE: a.run(func(ctx context.Context, c *client.Client, args []string) (err error) {
			spec.Name, spec.DatastoreName, spec.DatastoreManager, spec.Image = args[0], args[1], args[2], args[3]
			if spec.Active, err = truth("active", active); err != nil {
				return err
			}
			if spec.Default, err = truth("default", byDefault); err != nil {
				return err
			}
			return c.CreateVersion(ctx, spec)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&active, "active", "true", "instances may be made of it: true or false")
	f.StringVar(&byDefault, "default", "false", "it is the datastore's default: true or false")
	f.StringSliceVar(&spec.ImageTags, "image-tags", nil, "tags of the image (may be repeated)")
	f.StringVar(&spec.Version, "version-number", "", "number of the version (NAME)")
	f.BoolVar(&spec.RequireTLS, "require-tls", false, "databases of it let nobody in without TLS")
	return cmd
}

func (a *app) versionSet() *cobra.Command {
	var manager, image, name string
	var tags []string
	var enable, disable, byDefault, notDefault, requireTLS, optionalTLS bool
	cmd := &cobra.Command{Use: "set VERSION_ID", Short: "Change a datastore version (administrators)", Args: cobra.ExactArgs(1)}
	cmd.RunE = a.run(func(ctx context.Context, c *client.Client, args []string) error {
		var change wire.VersionUpdate
		for flag, set := range map[string]func(){
			"datastore-manager": func() { change.DatastoreManager = &manager },
			"image":             func() { change.Image = &image },
			"version-name":      func() { change.Name = &name },
			"image-tags":        func() { change.ImageTags = &tags },
			"enable":            func() { change.Active = &enable },
			"disable":           func() { change.Active = new(!disable) },
			"default":           func() { change.Default = &byDefault },
			"non-default":       func() { change.Default = new(!notDefault) },
			"require-tls":       func() { change.RequireTLS = &requireTLS },
			"optional-tls":      func() { change.RequireTLS = new(!optionalTLS) },
		} {
			if cmd.Flags().Changed(flag) {
				set()
			}
		}
		if change == (wire.VersionUpdate{}) {
			return usagef("Nothing to change: `trove datastore version set --help` lists the flags.")
		}
		return c.UpdateVersion(ctx, args[0], change)
	})
	f := cmd.Flags()
	f.StringVar(&manager, "datastore-manager", "", "engine driver")
	f.StringVar(&image, "image", "", "id of the image")
	f.StringSliceVar(&tags, "image-tags", nil, "tags of the image (may be repeated)")
	f.StringVar(&name, "version-name", "", "new name")
	f.BoolVar(&enable, "enable", false, "instances may be made of it")
	f.BoolVar(&disable, "disable", false, "no new instances are made of it")
	f.BoolVar(&byDefault, "default", false, "it is the datastore's default")
	f.BoolVar(&notDefault, "non-default", false, "it is not the datastore's default")
	f.BoolVar(&requireTLS, "require-tls", false, "new databases of it let nobody in without TLS, and no user can change that")
	f.BoolVar(&optionalTLS, "optional-tls", false, "users decide whether clients must use TLS")
	cmd.MarkFlagsMutuallyExclusive("enable", "disable")
	cmd.MarkFlagsMutuallyExclusive("require-tls", "optional-tls")
	cmd.MarkFlagsMutuallyExclusive("default", "non-default")
	return cmd
}

func (a *app) versionDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete VERSION_ID", Short: "Delete a datastore version that nothing uses (administrators)", Args: cobra.ExactArgs(1),
		RunE: a.run(func(ctx context.Context, c *client.Client, args []string) error { return c.DeleteVersion(ctx, args[0]) }),
	}
}
