package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/internal/app"
	"github.com/trove-dbaas/trove/internal/troveimport"
)

const importHelp = `Take what a Python Trove has in its database into the store of this service, with the same ids: datastores, versions with the flavors and volume types that they
allow and the rules of their parameters, configuration groups, instances, backups and their strategies, quotas, and who enabled root. Without --apply nothing is changed, and the report says what would be. With it everything is done in one
transaction, or nothing. It may be repeated: what is there stays as it is.

Of an instance the row is taken, not its machine and its data: it shows UNKNOWN and a fault that says so, counts for its project's quota, and can be deleted. With cloud: openstack "trove manage adopt" takes its server and volume over.
Of a backup the row is taken too; its object stays where it is.
What is left, such as instances that something is being done to, stands in the report with its reason.

A source is mysql://user@host:3306/trove, sqlite:///path, or file:///path of a dump by mysqldump or mariadb-dump. The password comes from the first line of --password-file, never from the command line.`

func importCommand(o *stateOptions) *cobra.Command {
	var from, password string
	var apply bool
	c := &cobra.Command{
		Use: "import-trove --from URL", Short: "Take over the database of a Python Trove", Long: importHelp, Args: cobra.NoArgs,
		Example: "  trove manage import-trove --from mysql://trove@db.example/trove --password-file trove.pw\n  trove manage import-trove --from sqlite:///root/trove.sqlite --apply",
		RunE: func(cmd *cobra.Command, _ []string) error {
			secret, err := firstLine(password)
			if err != nil {
				return err
			}
			source, err := troveimport.Open(cmd.Context(), from, secret)
			if err != nil {
				return err
			}
			err = withAdmin(cmd.Context(), o, func(a *app.Admin) error {
				report, err := a.Import(cmd.Context(), source, !apply)
				if err != nil {
					return err
				}
				return printImport(report, apply)
			})
			return errors.Join(err, source.Close())
		},
	}
	c.Flags().StringVar(&from, "from", "", "the source")
	c.Flags().StringVar(&password, "password-file", "", "file with the password of the source's user")
	c.Flags().BoolVar(&apply, "apply", false, "do it; without this it is a dry run")
	_ = c.MarkFlagRequired("from")
	return c
}

func firstLine(path string) (trove.Secret, error) {
	if path == "" {
		return "", nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	defer f.Close()
	line, err := bufio.NewReader(f).ReadString('\n')
	if line == "" && err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return trove.Secret(strings.TrimRight(line, "\r\n")), nil
}

func printImport(report []troveimport.Item, applied bool) error {
	counts := map[troveimport.Action]int{}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT\tID\tNAME\tRESULT\tREASON")
	for _, i := range report {
		counts[i.Action]++
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", i.Kind, i.ID, i.Name, i.Action, i.Reason)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "taken %d, there already %d, left %d\n", counts[troveimport.Taken], counts[troveimport.There], counts[troveimport.Left])
	if !applied {
		fmt.Fprintln(os.Stdout, "This was a dry run: nothing was changed. Give --apply to do it.")
	}
	return nil
}
