package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/app"
)

const adoptHelp = `Take over the server and the volume of an instance that was imported from a Python Trove (trove manage import-trove). Without --apply nothing is changed: what there is, and what
stands in the way, is printed. The service must run: its taskmanager makes the new machine.

With --apply the old server is stopped, a snapshot of its volume is taken, and volume and ports go to a new machine of this service, so that clients find their database under the address
that they know. The old server is kept, stopped. If anything goes wrong before the new machine is asked for, everything is taken back.

--back starts the old server again with the data of the snapshot: what was written since is lost. --finish removes the old server and the snapshot; there is no way back then.
An instance cannot be deleted, nor its volume, before one of both.`

func adoptCommand(o *manageOptions) *cobra.Command {
	var apply, back, finish bool
	var server string
	c := &cobra.Command{
		Use: "adopt INSTANCE", Short: "Take over an instance of a Python Trove, with its volume and addresses", Long: adoptHelp, Args: cobra.ExactArgs(1),
		Example: "  trove manage adopt 4f0e1a52-6c1e-4a0c-8f0e-1b5d0b8a7c11\n  trove manage adopt 4f0e1a52-6c1e-4a0c-8f0e-1b5d0b8a7c11 --apply",
		RunE: func(cmd *cobra.Command, args []string) error {
			if !trove.ValidID(args[0]) {
				return trove.Errorf(trove.KindBadRequest, "%q is not the id of an instance.", args[0])
			}
			cfg, _, err := o.config()
			if err != nil {
				return err
			}
			a, err := app.OpenAdopter(cmd.Context(), cfg, o.master)
			if err != nil {
				return err
			}
			p, err := a.Plan(cmd.Context(), args[0], server)
			if err == nil {
				switch {
				case apply:
					err = a.Adopt(cmd.Context(), p, tell)
				case back:
					err = a.Back(cmd.Context(), p, tell)
				case finish:
					err = a.Finish(cmd.Context(), p, tell)
				default:
					printPlan(p)
				}
			}
			if err == nil && (apply || back || finish) {
				fmt.Fprintln(os.Stdout, "done")
			}
			return errors.Join(err, a.Close())
		},
	}
	c.Flags().BoolVar(&apply, "apply", false, "do it; without this it is a dry run")
	c.Flags().BoolVar(&back, "back", false, "go back to the old server and its data")
	c.Flags().BoolVar(&finish, "finish", false, "remove the old server and the snapshot")
	c.Flags().StringVar(&server, "server", "", "id of the old server, where it is not found")
	c.Flags().StringVar(&o.master, "master-key", "", "file of the master key, where systemd hands it over to the service")
	c.MarkFlagsMutuallyExclusive("apply", "back", "finish")
	return c
}

func tell(doing string) {
	fmt.Fprintf(os.Stdout, "%s  %s\n", time.Now().Format(time.TimeOnly), doing) //nolint:forbidigo // for people
}

func printPlan(p app.AdoptPlan) {
	fmt.Fprintf(os.Stdout, "instance   %s (%s), project %s\n", p.Instance.ID, p.Instance.Name, p.Instance.ProjectID)
	fmt.Fprintf(os.Stdout, "version    %s %s, image %s\n", p.Version.DatastoreName, p.Version.Name, p.Version.ImageID)
	fmt.Fprintf(os.Stdout, "server     %s (%s), %s\n", p.ServerID, p.Server, p.State)
	fmt.Fprintf(os.Stdout, "volume     %s, %d GiB\n", p.Instance.VolumeID, p.VolumeGiB)
	fmt.Fprintf(os.Stdout, "addresses  %s\n", strings.Join(p.Addresses, " "))
	for _, each := range p.Problems {
		fmt.Fprintln(os.Stdout, "in the way:", each)
	}
	if len(p.Problems) == 0 {
		fmt.Fprintln(os.Stdout, "This was a dry run: nothing was changed. Give --apply to take it over.")
	}
}
