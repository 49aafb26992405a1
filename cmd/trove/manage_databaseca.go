package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/trove-dbaas/trove/internal/app"
)

func databaseCACommand(o *manageOptions) *cobra.Command {
	c := &cobra.Command{
		Use: "database-ca", Short: "The certificate authority that clients of databases believe", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.PersistentFlags().StringVar(&o.master, "master-key", "", "file of the master key, where systemd hands it over to the service")
	c.AddCommand(&cobra.Command{
		Use: "status", Short: "Show the authorities, the one that signs first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.withKeys(cmd.Context(), func(k *app.Keys) error {
				all, err := k.DatabaseCAs(cmd.Context())
				if err != nil {
					return err
				}
				if len(all) == 0 {
					fmt.Fprintln(os.Stdout, "There is no authority yet: the first database makes it.")
				}
				for _, a := range all {
					more := ""
					if a.Signs {
						more += ", signs"
					}
					if a.Crossed {
						more += ", signed by the one before"
					}
					fmt.Fprintf(os.Stdout, "%s (%s): made %s, until %s%s\n", a.ID, a.Name, a.Made.Format(time.DateTime), a.Ends.Format(time.DateTime), more)
				}
				return nil
			})
		},
	}, databaseCARollCommand(o))
	return c
}

func databaseCARollCommand(o *manageOptions) *cobra.Command {
	var distrust bool
	c := &cobra.Command{
		Use: "roll", Short: "Make a new authority; databases get certificates of it within minutes, without a restart", Args: cobra.NoArgs,
		Long: `Make a new authority. Databases get certificates of it within minutes, without a restart and without an interruption. The authority before it signs it too, so
that clients that know only that one go on; they need the new one (trove ssl ca INSTANCE) before the old one ends.

After a theft of the authority's key use --distrust: the old authority is forgotten and signs nothing more, and clients must fetch the new one at once.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.withKeys(cmd.Context(), func(k *app.Keys) error {
				id, err := k.RollDatabaseCA(cmd.Context(), distrust)
				if err != nil {
					return err
				}
				fmt.Fprintf(os.Stdout, "The authority of databases is %s now.\n", id)
				if distrust {
					fmt.Fprintln(os.Stdout, "Clients that verify are refused until they have it: trove ssl ca INSTANCE")
				}
				return nil
			})
		},
	}
	c.Flags().BoolVar(&distrust, "distrust", false, "the authority before it was stolen: it does not sign the new one and is forgotten")
	return c
}
