package cli_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const docsHead = `# The verbs of trove

What ` + "`trove`" + ` can do as a client of the REST API. This page is made from the program's own help:
` + "`go test ./client/cli -run TestReference -update`" + ` writes it anew.

Who asks and where is taken from the variables OS_AUTH_URL, OS_USERNAME, OS_PASSWORD, OS_PROJECT_NAME (or OS_PROJECT_ID), OS_USER_DOMAIN_NAME,
OS_REGION_NAME, OS_INTERFACE and OS_CACERT, as an openrc file sets them, or from a cloud of clouds.yaml that ` + "`--os-cloud`" + ` or OS_CLOUD names. OS_TOKEN with
OS_ENDPOINT stands for all of them. The token is kept in ` + "`~/.cache/trove`" + ` (XDG_CACHE_HOME), readable for the user alone.

Results go to the standard output, progress, questions and errors to the standard error output. The exit code is 0 when all went well, 2 when
the command line is wrong and nothing was asked of the server, 1 for all other errors.

A password never is an argument: it is asked for on a terminal, or read from the first line of ` + "`--password-file`" + ` (` + "`-`" + ` is the standard input). Where a
new user is given none, one is made and shown once.

` + "`--wait`" + ` returns when the work is done and shows what goes on, one line drawn again on a terminal and a line for each change elsewhere. Work that
fails is exit code 1 with the reason. A server that goes away meanwhile, to be restarted for example, is waited for, 60 seconds at the most. Ctrl-C
ends the waiting and not the work.

` + "`trove completion bash`" + ` (zsh, fish) prints a script for the shell that completes verbs, flags and the names of instances, flavors, datastores,
backups, modules and clusters.

## Flags of all verbs

`

func TestReference(t *testing.T) {
	root := newShell(newFakeAPI()).command()
	var out strings.Builder
	out.WriteString(docsHead)
	groups := root.Commands()
	out.WriteString("```\n" + groups[0].PersistentFlags().FlagUsages() + "```\n")
	for _, g := range groups {
		if g.GroupID != "client" {
			continue
		}
		fmt.Fprintf(&out, "\n## %s\n\n%s.\n", g.Name(), g.Short)
		eachVerb(g, func(c *cobra.Command) { describe(&out, c) })
	}
	golden(t, filepath.Join("..", "..", "docs", "cli.md"), out.String())
}

func describe(out *strings.Builder, c *cobra.Command) {
	text := c.Long
	if text == "" {
		text = c.Short + "."
	}
	fmt.Fprintf(out, "\n### %s\n\n%s\n\n```\n%s\n", strings.TrimPrefix(c.CommandPath(), "trove "), text, strings.TrimSuffix(c.UseLine(), " [flags]"))
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" && c.InheritedFlags().Lookup(f.Name) == nil {
			own.AddFlag(f)
		}
	})
	if own.HasFlags() {
		fmt.Fprintf(out, "\n%s", own.FlagUsages())
	}
	fmt.Fprintf(out, "```\n\nFor example:\n\n```\n")
	for line := range strings.Lines(c.Example + "\n") {
		out.WriteString(strings.TrimPrefix(line, "  "))
	}
	out.WriteString("```\n")
}
