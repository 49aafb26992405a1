package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/trove-dbaas/trove/internal/config"
)

func configCommand() *cobra.Command {
	var o stateOptions
	c := &cobra.Command{
		Use: "config", Short: "Show, check and explain the configuration", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	o.flags(c)
	c.AddCommand(
		&cobra.Command{
			Use: "show", Short: "Show the configuration as it applies: file, environment and defaults", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				c, _, err := o.config()
				if err != nil {
					return err
				}
				return yaml.NewEncoder(os.Stdout).Encode(c)
			},
		},
		&cobra.Command{
			Use: "check", Short: "Say whether the configuration is valid", Args: cobra.NoArgs,
			Example: "  trove config check --config trove.yaml",
			RunE: func(*cobra.Command, []string) error {
				_, _, err := o.config()
				if err == nil {
					fmt.Fprintln(os.Stdout, "the configuration is valid")
				}
				return err
			},
		},
		&cobra.Command{
			Use: "sample", Short: "Print a configuration file for OpenStack with every key explained", Args: cobra.NoArgs,
			Example: "  trove config sample >/etc/trove/trove.yaml",
			RunE: func(*cobra.Command, []string) error {
				fmt.Fprint(os.Stdout, config.Sample())
				return nil
			},
		},
		&cobra.Command{
			Use: "docs", Short: "Explain every key, as Markdown", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				fmt.Fprint(os.Stdout, config.Reference())
				return nil
			},
		},
	)
	return c
}

func versionCommand() *cobra.Command {
	var modules bool
	cmd := &cobra.Command{
		Use: "version", Short: "Show the version of this program", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			info, ok := debug.ReadBuildInfo()
			if !ok {
				return fmt.Errorf("this binary has no build information")
			}
			fmt.Fprintln(os.Stdout, "trove", info.Main.Version, strings.TrimPrefix(info.GoVersion, "go"))
			if modules {
				for _, m := range info.Deps {
					fmt.Fprintln(os.Stdout, m.Path, m.Version)
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&modules, "modules", false, "list the modules that are linked")
	return cmd
}
