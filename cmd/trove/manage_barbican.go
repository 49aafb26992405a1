package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/app"
)

const keyCopyHelp = `Copy the master keys to Barbican, as secrets of a name in the project of the service. The configuration needs the login of openstack. The keys stay where they are, so
that the way back is to change the configuration back.

Afterwards set secrets.master_key to the same barbican:NAME for every controller and restart it. It may be repeated: what is there stays.`

func keyCopyCommand(o *manageOptions) *cobra.Command {
	return &cobra.Command{
		Use: "copy barbican:NAME", Short: "Copy the master keys to Barbican", Long: keyCopyHelp, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, ok := strings.CutPrefix(args[0], "barbican:")
			if !ok || name == "" {
				return trove.Errorf(trove.KindBadRequest, "Keys are copied to barbican:NAME, not to %q.", args[0])
			}
			return o.withKeys(cmd.Context(), func(k *app.Keys) error {
				where, err := k.CopyMasterKey(cmd.Context(), name)
				if err == nil {
					fmt.Fprintf(os.Stdout, "the master keys are %s; set secrets.master_key: %s for every controller and restart it\n", where, args[0])
				}
				return err
			})
		},
	}
}
