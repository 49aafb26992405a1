// Package cli is the verbs for people and scripts. It can do what the REST API can, and nothing else.
//
// Results go to the standard output in the chosen format, progress and questions to the standard error output. Errors come back from Execute of
// the command; Explain turns them into a message and an exit code.
package cli

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/client"
)

// Env is what the commands touch of the world.
type Env struct {
	Stdin       io.Reader
	Stdout      io.Writer
	Stderr      io.Writer
	Getenv      func(string) string
	Interactive bool // the standard error output is a terminal: a live line may be drawn
	// ReadPassword asks for a password without showing it; nil where there is no terminal.
	ReadPassword func(prompt string) (trove.Secret, error)
	// Exec replaces this process by another program, which gets these variables ("NAME=value") beside or in place of this process's.
	Exec func(path string, args, env []string) error
	// Output runs a program to its end and returns its standard output.
	Output func(ctx context.Context, path string, args ...string) (string, error)
	// LookPath finds a program.
	LookPath func(name string) (string, error)
	// HTTP sends the requests; nil for a client of its own.
	HTTP *http.Client
}

// app is what one run of a command shares.
type app struct {
	env    Env
	format string
	column []string
	cloud  string
	made   *client.Client
}

// AddCommands adds the client verbs to a root command. What is below the root already also gets errors that say how a command is called right:
// *UsageError.
func AddCommands(root *cobra.Command, env Env) {
	a := &app{env: env}
	groups := []*cobra.Command{
		a.instanceCmd(), a.operationCmd(), a.databaseCmd(), a.userCmd(), a.rootCmd(), a.logCmd(), a.datastoreCmd(), a.flavorCmd(), a.limitsCmd(), a.quotaCmd(), a.hostCmd(),
		a.agentCmd(), a.configurationCmd(), a.backupCmd(), a.moduleCmd(), a.clusterCmd(), a.mgmtCmd(), a.sslCmd(), a.auditCmd(),
	}
	for _, g := range groups {
		g.GroupID = "client"
		g.PersistentFlags().StringVarP(&a.format, "format", "f", "table", "output format: table, json, yaml, csv or value")
		g.PersistentFlags().StringSliceVarP(&a.column, "column", "c", nil, "show only this column (may be repeated)")
		g.PersistentFlags().StringVar(&a.cloud, "os-cloud", "", "cloud of clouds.yaml to use (OS_CLOUD)")
		_ = g.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"table", "json", "yaml", "csv", "value"}, cobra.ShellCompDirectiveNoFileComp))
	}
	root.AddGroup(&cobra.Group{ID: "client", Title: "Databases (these talk to the API; `. openrc` first):"})
	root.AddCommand(groups...)
	root.SetFlagErrorFunc(flagError)
	explain(root)
}

// client returns the API client, from --os-cloud, OS_CLOUD or the OS_* variables.
func (a *app) client() (*client.Client, error) {
	if a.made != nil {
		return a.made, nil
	}
	get := a.env.Getenv
	cfg := client.Config{
		AuthURL: get("OS_AUTH_URL"), Username: get("OS_USERNAME"), Password: trove.Secret(get("OS_PASSWORD")),
		Project: get("OS_PROJECT_NAME"), ProjectID: get("OS_PROJECT_ID"), Domain: get("OS_USER_DOMAIN_NAME"),
		Region: get("OS_REGION_NAME"), Token: trove.Secret(get("OS_TOKEN")), Endpoint: get("OS_ENDPOINT"),
		Interface: get("OS_INTERFACE"), Cache: a.cacheDir(), CACert: get("OS_CACERT"), HTTP: a.env.HTTP,
	}
	name := a.cloud
	if name == "" {
		name = get("OS_CLOUD")
	}
	if name != "" {
		if err := a.readCloud(name, &cfg); err != nil {
			return nil, err
		}
	}
	c, err := client.New(cfg)
	a.made = c
	return c, err
}

func (a *app) cacheDir() string {
	if dir := a.env.Getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "trove")
	}
	if home := a.env.Getenv("HOME"); home != "" {
		return filepath.Join(home, ".cache", "trove")
	}
	return ""
}

// run makes a command's function out of one that gets the client.
func (a *app) run(f func(ctx context.Context, c *client.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := a.checkFormat(); err != nil {
			return err
		}
		c, err := a.client()
		if err != nil {
			return err
		}
		return f(cmd.Context(), c, args)
	}
}

// group makes a command that only has sub-commands.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.AddCommand(subs...)
	return c
}

// maxPassword bounds what is read of a password's source, in bytes.
const maxPassword = 4096

// password returns a password from a file ("-" is the standard input) or by asking; "" when there is neither a file nor a terminal, or when
// nothing was typed. A file without a password is an error: to make one up would hide the mistake.
func (a *app) password(file, prompt string) (trove.Secret, error) {
	switch {
	case file == "-":
		data, err := io.ReadAll(io.LimitReader(a.env.Stdin, maxPassword))
		if err != nil {
			return "", trove.Wrap(trove.KindBadRequest, err, "The password cannot be read from the standard input.")
		}
		return firstLine(data, "the standard input")
	case file != "":
		data, err := os.ReadFile(file)
		if err != nil {
			return "", trove.Wrap(trove.KindBadRequest, err, "The password file %s cannot be read.", file)
		}
		return firstLine(data, file)
	case a.env.ReadPassword != nil:
		return a.env.ReadPassword(prompt)
	}
	return "", nil
}

func firstLine(data []byte, source string) (trove.Secret, error) {
	line, _, _ := strings.Cut(string(data), "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return "", trove.Errorf(trove.KindBadRequest, "The first line of %s is empty: it should be the password.", source)
	}
	return trove.Secret(line), nil
}
