package main

import (
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/trove-dbaas/trove/internal/app"
)

func keyRenewBusCommand(o *manageOptions) *cobra.Command {
	return &cobra.Command{
		Use: "renew-bus", Short: "Make new identities of the bus, after a theft of the old ones", Args: cobra.NoArgs,
		Long: "Make new identities of the bus (operator, accounts, signers). The old ones are good until each taskmanager was started again; then guests that hold\n" +
			"credentials of them ask for new ones by themselves. Restart all controllers at once: those with old identities do not reach brokers with new ones.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.withKeys(cmd.Context(), func(k *app.Keys) error {
				if err := k.RenewBusKeys(cmd.Context()); err != nil {
					return err
				}
				fmt.Fprintln(os.Stdout, "new identities are in the store: restart every controller now")
				return nil
			})
		},
	}
}

func keyPrepareCommand(o *manageOptions) *cobra.Command {
	return &cobra.Command{
		Use: "prepare", Short: "Make the next master key for several hosts, before it seals", Args: cobra.NoArgs,
		Long: "Make the next master key. It opens what is sealed under it, and seals nothing yet: copy the file to every host (and restart the controllers where systemd\n" +
			"hands it over). Then `trove manage key rotate` puts it to use, and the file is copied once more. Without this step a host would seal what others cannot open.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.withKeys(cmd.Context(), func(k *app.Keys) error {
				id, err := k.PrepareMasterKey(cmd.Context())
				if err != nil {
					return err
				}
				fmt.Fprintf(os.Stdout, "the next key is %s: copy the file to every host, then `trove manage key rotate`\n", id)
				return nil
			})
		},
	}
}

func controllersCommand(o *stateOptions) *cobra.Command {
	return &cobra.Command{
		Use: "controllers", Short: "Show the taskmanagers of the deployment with their brokers, and how their clocks go", Args: cobra.NoArgs,
		Example: "  trove manage controllers",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := o.config()
			if err != nil {
				return err
			}
			all, err := app.Controllers(cmd.Context(), c)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tHOST\tBUS\tSEEN\tCLOCK\tSTATE")
			for _, r := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, r.Host, r.Bus, r.Seen, r.Clock, r.State)
			}
			return w.Flush()
		},
	}
}

func adoptCloudCommand(o *stateOptions) *cobra.Command {
	return &cobra.Command{
		Use: "adopt-cloud", Short: "Say that the disk with the databases was moved to this machine (store in a database server)", Args: cobra.NoArgs,
		Long: "Say that the databases of the deployment are on this machine now, because their disk was moved here. The taskmanager of the machine that had them must not\n" +
			"run. With the databases left elsewhere the service would take every one of them for lost.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := o.config()
			if err != nil {
				return err
			}
			return done(app.AdoptCloud(cmd.Context(), c), false, "the local cloud of this deployment")
		},
	}
}
