package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/trove-dbaas/trove/client"
)

func (a *app) datastoreDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete DATASTORE", Short: "Delete a datastore that has no versions (administrators)", Args: cobra.ExactArgs(1),
		ValidArgsFunction: a.complete(datastoreNames),
		RunE: a.run(func(ctx context.Context, c *client.Client, args []string) error {
			return c.DeleteDatastore(ctx, args[0])
		}),
	}
}
