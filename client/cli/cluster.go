package cli

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
)

func (a *app) clusterCmd() *cobra.Command {
	return group("cluster", "Clusters of instances",
		a.clusterList(), a.clusterShow(), a.clusterCreate(), a.clusterDelete(), group("force", "Whatever state it is in", a.clusterForceDelete()),
		a.clusterGrow(), a.clusterShrink(), a.clusterUpgrade(), a.clusterRestart(), group("reset", "Clear what is stuck", a.clusterReset()), a.clusterModules())
}

func clusterNames(ctx context.Context, c *client.Client) ([]string, error) {
	all, err := c.Clusters(ctx)
	names := make([]string, 0, len(all))
	for _, cl := range all {
		names = append(names, cl.Name)
	}
	return names, err
}

func (a *app) clusterList() *cobra.Command {
	return &cobra.Command{
		Use: "list [instances CLUSTER]", Short: "List the clusters of the project, or the members of one", Args: pairOrNone("instances"),
		RunE: a.run(func(ctx context.Context, c *client.Client, args []string) error {
			if len(args) == 2 {
				return a.listMembers(ctx, c, args[1])
			}
			all, err := c.Clusters(ctx)
			if err != nil {
				return err
			}
			rows := make([]row, 0, len(all))
			for _, cl := range all {
				rows = append(rows, row{cl.ID, cl.Name, deref(cl.Datastore.Type), deref(cl.Datastore.Version), cl.Task.Name})
			}
			return a.list([]string{"ID", "Name", "Datastore", "Datastore Version", "Task Name"}, rows)
		}),
	}
}

func (a *app) listMembers(ctx context.Context, c *client.Client, cluster string) error {
	cl, err := c.FindCluster(ctx, cluster)
	if err != nil {
		return err
	}
	rows := make([]row, 0, len(cl.Instances))
	for _, i := range cl.Instances {
		var flavor, size any
		if i.Flavor != nil {
			flavor = i.Flavor.ID
		}
		if i.Volume != nil {
			size = i.Volume.Size
		}
		rows = append(rows, row{i.ID, i.Name, flavor, size, i.Status})
	}
	return a.list([]string{"ID", "Name", "Flavor ID", "Size", "Status"}, rows)
}

// onCluster makes a command whose first argument is a cluster.
func (a *app) onCluster(cmd *cobra.Command, f func(ctx context.Context, c *client.Client, cl wire.Cluster, args []string) error) *cobra.Command {
	cmd.ValidArgsFunction = a.complete(clusterNames)
	cmd.RunE = a.run(func(ctx context.Context, c *client.Client, args []string) error {
		cl, err := c.FindCluster(ctx, args[0])
		if err != nil {
			return err
		}
		return f(ctx, c, cl, args[1:])
	})
	return cmd
}

func (a *app) showCluster(cl wire.Cluster) error {
	ips := make([]string, 0, len(cl.IP))
	for _, ip := range cl.IP {
		ips = append(ips, ip.Address)
	}
	members := make([]string, 0, len(cl.Instances))
	for _, i := range cl.Instances {
		members = append(members, i.Name)
	}
	return a.show([]string{
		"id", "name", "datastore", "datastore_version", "task_name", "task_description", "instances", "ip", "locality", "configuration", "created", "updated",
	}, row{
		cl.ID, cl.Name, deref(cl.Datastore.Type), deref(cl.Datastore.Version), cl.Task.Name, cl.Task.Description, members, ips, cl.Locality, cl.Configuration,
		stamp(&cl.Created), stamp(&cl.Updated),
	})
}

func (a *app) clusterShow() *cobra.Command {
	return a.onCluster(&cobra.Command{Use: "show CLUSTER", Short: "Show a cluster by name or id", Args: cobra.ExactArgs(1)},
		func(_ context.Context, _ *client.Client, cl wire.Cluster, _ []string) error { return a.showCluster(cl) })
}

// nodeHelp is the form of --instance.
const nodeHelp = "a member: flavor=,volume=[,volume_type=][,network=][,availability_zone=][,name=][,type=][,related_to=][,module=] (repeat)"

// parseNode reads one --instance.
func parseNode(ctx context.Context, c *client.Client, text string) (node wire.ClusterNode, err error) {
	for part := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(part, "=")
		if !ok || value == "" {
			return node, usagef("--instance: %q is not of the form KEY=VALUE.", part)
		}
		if err := setNode(ctx, c, &node, strings.TrimSpace(key), value); err != nil {
			return node, err
		}
	}
	if node.FlavorRef == "" {
		return node, usagef("--instance: %q names no flavor.", text)
	}
	return node, nil
}

func setNode(ctx context.Context, c *client.Client, node *wire.ClusterNode, key, value string) error {
	volume := func() *wire.VolumeCreate {
		if node.Volume == nil {
			node.Volume = &wire.VolumeCreate{}
		}
		return node.Volume
	}
	switch key {
	case "flavor":
		f, err := findFlavor(ctx, c, value)
		node.FlavorRef = wire.Ref(f.StrID)
		return err
	case "volume":
		gib, err := strconv.Atoi(value)
		if err != nil {
			return usagef("--instance: volume=%q is not a whole number.", value)
		}
		volume().Size = wire.Size(gib)
	case "volume_type":
		volume().Type = &value
	case "network":
		node.NICs = []wire.NIC{{NetworkID: value}}
	case "availability_zone":
		node.AvailabilityZone = value
	case "name":
		node.Name = value
	case "type":
		node.Type = value
	case "related_to":
		node.RelatedTo = value
	case "module":
		m, err := c.FindModule(ctx, value)
		if err != nil {
			return err
		}
		node.Modules = append(node.Modules, wire.ModuleRef{ID: m.ID})
	default:
		return usagef("--instance: there is no key %q.", key)
	}
	return nil
}

func parseNodes(ctx context.Context, c *client.Client, texts []string) ([]wire.ClusterNode, error) {
	nodes := make([]wire.ClusterNode, 0, len(texts))
	for _, text := range texts {
		n, err := parseNode(ctx, c, text)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

func (a *app) clusterCreate() *cobra.Command {
	var instances []string
	var spec wire.ClusterCreate
	cmd := &cobra.Command{
		Use: "create NAME DATASTORE VERSION", Short: "Create a cluster", Args: cobra.ExactArgs(3),
		RunE: a.run(func(ctx context.Context, c *client.Client, args []string) error {
			spec.Name, spec.Datastore = args[0], wire.DatastoreChoice{Type: args[1], Version: args[2]}
			var err error
			if spec.Instances, err = parseNodes(ctx, c, instances); err != nil {
				return err
			}
			cl, err := c.CreateCluster(ctx, spec)
			if err != nil {
				return err
			}
			return a.showCluster(cl)
		}),
	}
	f := cmd.Flags()
	f.StringArrayVar(&instances, "instance", nil, nodeHelp)
	f.StringVar(&spec.Locality, "locality", "", "affinity or anti-affinity")
	f.StringToStringVar(&spec.Properties, "extended-properties", nil, "properties of the datastore's clusters, KEY=VALUE,...")
	f.StringVar(&spec.Configuration, "configuration", "", "id of a configuration group")
	_ = cmd.MarkFlagRequired("instance")
	return cmd
}

func (a *app) clusterDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete CLUSTER...", Short: "Delete clusters with all their data", Args: cobra.MinimumNArgs(1), ValidArgsFunction: a.completeMany(clusterNames),
		RunE: a.run(func(ctx context.Context, c *client.Client, args []string) error {
			for _, arg := range args {
				cl, err := c.FindCluster(ctx, arg)
				if err != nil {
					return err
				}
				if err := c.DeleteCluster(ctx, cl.ID); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}

func (a *app) clusterForceDelete() *cobra.Command {
	return a.onCluster(&cobra.Command{Use: "delete CLUSTER", Short: "Clear what is stuck and delete a cluster", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, cl wire.Cluster, _ []string) error {
			if err := c.ResetClusterStatus(ctx, cl.ID, true); err != nil {
				return err
			}
			return c.DeleteCluster(ctx, cl.ID)
		})
}

func (a *app) clusterGrow() *cobra.Command {
	var instances []string
	cmd := a.onCluster(&cobra.Command{Use: "grow CLUSTER", Short: "Add members to a cluster", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, cl wire.Cluster, _ []string) error {
			nodes, err := parseNodes(ctx, c, instances)
			if err != nil {
				return err
			}
			return c.GrowCluster(ctx, cl.ID, nodes...)
		})
	cmd.Flags().StringArrayVar(&instances, "instance", nil, nodeHelp)
	_ = cmd.MarkFlagRequired("instance")
	return cmd
}

func (a *app) clusterShrink() *cobra.Command {
	return a.onCluster(&cobra.Command{Use: "shrink CLUSTER INSTANCE...", Short: "Remove members from a cluster, by name or id", Args: cobra.MinimumNArgs(2)},
		func(ctx context.Context, c *client.Client, cl wire.Cluster, args []string) error {
			ids := make([]string, 0, len(args))
			for _, arg := range args {
				id := arg
				for _, i := range cl.Instances {
					if i.Name == arg {
						id = i.ID
					}
				}
				ids = append(ids, id)
			}
			return c.ShrinkCluster(ctx, cl.ID, ids...)
		})
}

func (a *app) clusterUpgrade() *cobra.Command {
	return a.onCluster(&cobra.Command{Use: "upgrade CLUSTER VERSION", Short: "Give the members another datastore version", Args: cobra.ExactArgs(2)},
		func(ctx context.Context, c *client.Client, cl wire.Cluster, args []string) error {
			return c.UpgradeCluster(ctx, cl.ID, args[0])
		})
}

func (a *app) clusterRestart() *cobra.Command {
	return a.onCluster(&cobra.Command{Use: "restart CLUSTER", Short: "Restart the members one after another", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, cl wire.Cluster, _ []string) error {
			return c.RestartCluster(ctx, cl.ID)
		})
}

func (a *app) clusterReset() *cobra.Command {
	return a.onCluster(&cobra.Command{Use: "status CLUSTER", Short: "Clear a task of a cluster and its members (administrators)", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, cl wire.Cluster, _ []string) error {
			return c.ResetClusterStatus(ctx, cl.ID, false)
		})
}

func (a *app) clusterModules() *cobra.Command {
	return a.onCluster(&cobra.Command{Use: "modules CLUSTER", Short: "List the modules that the members have", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, cl wire.Cluster, _ []string) error {
			var rows []row
			for _, i := range cl.Instances {
				all, err := c.InstanceModules(ctx, i.ID, false)
				if err != nil {
					return err
				}
				for _, m := range all {
					rows = append(rows, row{i.Name, m.Name, m.Type, m.MD5, stamp(&m.Created), stamp(&m.Updated)})
				}
			}
			return a.list([]string{"Instance Name", "Module Name", "Module Type", "MD5", "Created", "Updated"}, rows)
		})
}
