package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/trove-dbaas/trove/internal/app"
)

const dbImportHelp = `Move the store of the state directory (SQLite) into the database server that store.url names, all of it or nothing. Its database must be empty
and the service must not run. The file is put aside as store.db.imported.

docs/drivers/store-postgresql.md and store-mariadb.md say how the database is made.`

// databaseCommand is trove manage db.
func databaseCommand(o *stateOptions) *cobra.Command {
	db := &cobra.Command{
		Use: "db", Short: "The database that keeps the state of the service", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	db.AddCommand(
		&cobra.Command{
			Use: "sync", Short: "Bring the schema of the store up to date", Args: cobra.NoArgs,
			Long: "Bring the schema of the store up to date. The service does so at each start; with this its account needs no right to change tables. It may be repeated.",
			RunE: func(cmd *cobra.Command, _ []string) error {
				c, _, err := o.config()
				if err != nil {
					return err
				}
				found, err := app.SyncStore(cmd.Context(), c)
				if err != nil {
					return err
				}
				if found.At == found.Known {
					fmt.Fprintf(os.Stdout, "the store has schema %d, which is the newest\n", found.At)
					return nil
				}
				fmt.Fprintf(os.Stdout, "the store had schema %d and has %d now\n", found.At, found.Known)
				return nil
			},
		},
		&cobra.Command{
			Use: "version", Short: "Show which schema the store has", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				c, _, err := o.config()
				if err != nil {
					return err
				}
				found, err := app.StoreSchema(cmd.Context(), c)
				if err == nil {
					fmt.Fprintf(os.Stdout, "schema %d, this program knows %d\n", found.At, found.Known)
				}
				return err
			},
		},
		&cobra.Command{
			Use: "import", Short: "Move the store of the state directory into a database server", Long: dbImportHelp, Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				c, _, err := o.config()
				if err != nil {
					return err
				}
				rows, err := app.ImportStore(cmd.Context(), c)
				if err == nil {
					fmt.Fprintf(os.Stdout, "%d rows were moved; the old file is %s/store.db.imported\n", rows, c.State)
				}
				return err
			},
		},
	)
	return db
}
