package main

import (
	"cmp"
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/client/cli"
	"github.com/trove-dbaas/trove/internal/app"
	"github.com/trove-dbaas/trove/internal/config"
)

const serveHelp = `Run one or more controllers of the service in the foreground until SIGINT or SIGTERM; databases go on. Together api, taskmanager and
conductor do what "trove dev run" does in one process, from the same state directory on the same machine:

  api          answers clients; the only one of them with a port for others
  taskmanager  carries operations out; the message bus and the cloud of this machine live in its process
  conductor    writes down what databases report

They may be started, stopped and killed in any order, but not beside "trove dev". Further processes of a component have a --name: more than one api
(with --listen of its own) or conductor share the work; of several taskmanagers one works, and another takes its place within a second when it ends.

The names trove-api, trove-taskmanager and trove-conductor are short for this command with that component.`

func serveCommand() *cobra.Command {
	var o stateOptions
	var name string
	serve := &cobra.Command{
		Use: "serve COMPONENT...", Short: "Run the api, the taskmanager or the conductor in a process of its own (root)", Long: serveHelp,
		ValidArgs: app.AllComponents.Names(),
		RunE:      func(cmd *cobra.Command, names []string) error { return serve(cmd.Context(), o, name, names) },
	}
	o.flags(serve)
	serve.Flags().StringVar(&name, "name", "", "name of this process, for a further one of the same component")
	serve.Flags().StringVar(&o.metrics, "metrics-listen", "", "loopback address and port of /metrics, for a process without the api")
	return serve
}

func serve(ctx context.Context, o stateOptions, name string, names []string) error {
	runs, err := app.ParseComponents(names)
	if err == nil {
		runs, err = runs.Named(name)
	}
	if err != nil {
		return &cli.UsageError{Message: trove.MessageOf(err)}
	}
	c, _, err := o.config()
	if err != nil {
		return err
	}
	return app.Run(ctx, c, runs, func(url string) {
		tellReady()
		if url == "" {
			fmt.Fprintln(os.Stderr, "it runs from", c.State)
			return
		}
		fmt.Fprintf(os.Stderr, "the API answers on %s; %s\n", url, howToLogIn(c))
	})
}

// howToLogIn says what a user of the API does first.
func howToLogIn(c config.Config) string {
	if c.Identity.Driver == config.IdentityKeystone {
		return "clients log in at " + cmp.Or(c.Identity.PublicAuthURL, c.Identity.AuthURL)
	}
	return fmt.Sprintf("`. %s/openrc`", c.State)
}
