package cli

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/trove-dbaas/trove/client"
)

// completionTime is how long the Tab key may take. A server that does not answer must not hold the shell.
const completionTime = 3 * time.Second

// namesOf are what an argument may be.
type namesOf func(ctx context.Context, c *client.Client) ([]string, error)

// complete completes the first argument with the first of sources, and so on.
func (a *app) complete(sources ...namesOf) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= len(sources) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.names(cmd, sources[len(args)])
	}
}

// completeMany completes a flag, or each of many arguments with what was not given yet.
func (a *app) completeMany(source namesOf) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		names, directive := a.names(cmd, source)
		return slices.DeleteFunc(names, func(n string) bool { return slices.Contains(args, n) }), directive
	}
}

func (a *app) names(cmd *cobra.Command, source namesOf) ([]string, cobra.ShellCompDirective) {
	c, err := a.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
	defer cancel()
	names, err := source(ctx, c)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func instanceNames(ctx context.Context, c *client.Client) ([]string, error) {
	all, err := c.AllInstances(ctx)
	names := make([]string, 0, len(all))
	for _, i := range all {
		names = append(names, i.Name)
	}
	return names, err
}

func flavorNames(ctx context.Context, c *client.Client) ([]string, error) {
	all, err := c.Flavors(ctx)
	names := make([]string, 0, len(all))
	for _, f := range all {
		names = append(names, f.Name)
	}
	return names, err
}

func datastoreNames(ctx context.Context, c *client.Client) ([]string, error) {
	all, err := c.Datastores(ctx)
	names := make([]string, 0, len(all))
	for _, d := range all {
		names = append(names, d.Name)
	}
	return names, err
}
