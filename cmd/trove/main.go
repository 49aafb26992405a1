// Command trove is the service and its client in one program: `trove dev` runs everything on this machine, `trove serve` one or more of
// the controllers, and the other verbs talk to the API. Called as trove-api, trove-taskmanager or trove-conductor it is `trove serve` of that
// component.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/client/cli"
	"github.com/trove-dbaas/trove/internal/app"
	"github.com/trove-dbaas/trove/internal/execx"
)

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root := rootCommand()
	root.SetArgs(arguments(os.Args))
	err := root.ExecuteContext(ctx)
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	message, code := cli.Explain(err)
	if message != "" {
		fmt.Fprintln(os.Stderr, "error:", message)
	}
	return code
}

// arguments turns the name trove-api into `trove serve api`.
func arguments(argv []string) []string {
	component, ok := strings.CutPrefix(filepath.Base(argv[0]), "trove-")
	if ok && slices.Contains(app.AllComponents.Names(), component) {
		return append([]string{"serve", component}, argv[1:]...)
	}
	return argv[1:]
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use: "trove", Short: "Databases as a service",
		Long:         "Databases as a service: create, use and manage isolated database instances on OpenStack or on this machine.",
		SilenceUsage: true, SilenceErrors: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddGroup(&cobra.Group{ID: "service", Title: "The service on this machine:"})
	for _, c := range []*cobra.Command{devCommand(), serveCommand(), serviceCommand(), imageCommand(), manageCommand(), openstackCommand(), configCommand()} {
		c.GroupID = "service"
		root.AddCommand(c)
	}
	underManage(root).AddCommand(agentCommand())
	root.AddCommand(versionCommand())
	cli.AddCommands(root, environment())
	return root
}

func environment() cli.Env {
	env := cli.Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv,
		Interactive: term.IsTerminal(int(os.Stderr.Fd())),
		LookPath:    exec.LookPath,
		Exec: func(path string, args, env []string) error {
			return syscall.Exec(path, args, replaced(os.Environ(), env)) //nolint:gosec // the engine's own client, which the user asked for
		},
		Output: func(ctx context.Context, path string, args ...string) (string, error) {
			out, err := execx.Run(ctx, execx.Cmd{Path: path, Args: args})
			return string(out), err
		},
	}
	if term.IsTerminal(int(os.Stdin.Fd())) {
		env.ReadPassword = readPassword
	}
	return env
}

// replaced returns the variables with those of more in place of their namesakes: of two with one name a program sees the first.
func replaced(variables, more []string) []string {
	all := slices.Clone(more)
	for _, v := range variables {
		name, _, _ := strings.Cut(v, "=")
		if !slices.ContainsFunc(more, func(m string) bool { return strings.HasPrefix(m, name+"=") }) {
			all = append(all, v)
		}
	}
	return all
}

func readPassword(prompt string) (trove.Secret, error) {
	fmt.Fprint(os.Stderr, prompt)
	data, err := term.ReadPassword(int(os.Stdin.Fd()))
	fmt.Fprintln(os.Stderr)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return trove.Secret(data), nil
}
