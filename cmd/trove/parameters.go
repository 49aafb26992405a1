package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/trove-dbaas/trove/internal/app"
)

const parametersHelp = `Load or remove the rules for the parameters of a datastore version: what users may set in configuration groups. New versions have their engine driver's rules;
load them again after an upgrade of the service. A FILE has the form of Trove's validation-rules.json.

What administrators wrote or removed over the API stays, unless --reset is given. The service may run meanwhile.`

// parametersCommand is the counterpart of Trove's db_load_datastore_config_parameters and db_remove_datastore_config_parameters.
func parametersCommand(o *manageOptions) *cobra.Command {
	var rules app.Rules
	c := &cobra.Command{
		Use: "parameters", Short: "The rules for parameters of databases", Long: parametersHelp, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	load := &cobra.Command{
		Use: "load DATASTORE VERSION [FILE]", Short: "Load the rules of a datastore version", Long: parametersHelp, Args: cobra.RangeArgs(2, 3),
		Example: "  trove manage parameters load mariadb 10.11\n  trove manage parameters load mariadb 10.11 validation-rules.json --reset",
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, _, err := o.config()
			if err != nil {
				return err
			}
			rules.Datastore, rules.Version = args[0], args[1]
			if len(args) == 3 {
				rules.File = args[2]
			}
			n, err := app.LoadParameters(cmd.Context(), cfg, rules)
			if err != nil {
				return err
			}
			fmt.Fprintf(os.Stdout, "%s %s has rules for %d parameters\n", args[0], args[1], n)
			return nil
		},
	}
	load.Flags().BoolVar(&rules.Reset, "reset", false, "forget what administrators wrote or removed")
	remove := &cobra.Command{
		Use: "remove DATASTORE VERSION", Short: "Remove all rules of a datastore version: it has no configuration groups then", Args: cobra.ExactArgs(2),
		Example: "  trove manage parameters remove mariadb 10.11",
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, _, err := o.config()
			if err != nil {
				return err
			}
			rules.Datastore, rules.Version = args[0], args[1]
			return app.RemoveParameters(cmd.Context(), cfg, rules)
		},
	}
	c.AddCommand(load, remove)
	c.PersistentFlags().StringVar(&rules.Number, "version", "", "number of the version, where several have the name")
	return c
}
