package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
)

// onInstance makes a command whose first argument is an instance.
func (a *app) onInstance(cmd *cobra.Command, f func(ctx context.Context, c *client.Client, instance string, args []string) error) *cobra.Command {
	cmd.ValidArgsFunction = a.complete(instanceNames)
	cmd.RunE = a.run(func(ctx context.Context, c *client.Client, args []string) error {
		i, err := c.FindInstance(ctx, args[0])
		if err != nil {
			return err
		}
		return f(ctx, c, i.ID, args[1:])
	})
	return cmd
}

func (a *app) databaseCmd() *cobra.Command {
	list := a.onInstance(&cobra.Command{Use: "list INSTANCE", Short: "List the databases of an instance", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, instance string, _ []string) error {
			all, err := c.Databases(ctx, instance)
			if err != nil {
				return err
			}
			return a.list([]string{"Name"}, databaseRows(all))
		})
	var set, collate string
	create := a.onInstance(&cobra.Command{Use: "create INSTANCE NAME", Short: "Create a database", Args: cobra.ExactArgs(2)},
		func(ctx context.Context, c *client.Client, instance string, args []string) error {
			return c.CreateDatabases(ctx, instance, wire.DatabaseCreate{Name: args[0], CharacterSet: set, Collate: collate})
		})
	create.Flags().StringVar(&set, "character-set", "", "character set")
	create.Flags().StringVar(&collate, "collate", "", "collation")
	del := a.onInstance(&cobra.Command{Use: "delete INSTANCE NAME", Short: "Delete a database with its contents", Args: cobra.ExactArgs(2)},
		func(ctx context.Context, c *client.Client, instance string, args []string) error {
			return c.DeleteDatabase(ctx, instance, args[0])
		})
	return group("database", "Databases inside an instance", list, create, del)
}

func databaseRows(all []wire.Database) []row {
	rows := make([]row, 0, len(all))
	for _, d := range all {
		rows = append(rows, row{d.Name})
	}
	return rows
}

func names(all []wire.Database) []string {
	list := make([]string, 0, len(all))
	for _, d := range all {
		list = append(list, d.Name)
	}
	return list
}

func (a *app) userCmd() *cobra.Command {
	return group("user", "Database users inside an instance",
		a.userList(), a.userShow(), a.userCreate(), a.userUpdate(), a.userDelete(), a.userGrant(), a.userRevoke())
}

func (a *app) userList() *cobra.Command {
	return a.onInstance(&cobra.Command{Use: "list INSTANCE", Short: "List the users of an instance", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, instance string, _ []string) error {
			all, err := c.Users(ctx, instance)
			if err != nil {
				return err
			}
			rows := make([]row, 0, len(all))
			for _, u := range all {
				rows = append(rows, row{u.Name, u.Host, names(u.Databases)})
			}
			return a.list([]string{"Name", "Host", "Databases"}, rows)
		})
}

// user splits NAME or NAME@HOST.
func user(arg string) (name, host string) {
	if i := strings.LastIndexByte(arg, '@'); i > 0 {
		return arg[:i], arg[i+1:]
	}
	return arg, ""
}

func (a *app) userShow() *cobra.Command {
	return a.onInstance(&cobra.Command{Use: "show INSTANCE USER[@HOST]", Short: "Show a user and what it may use", Args: cobra.ExactArgs(2)},
		func(ctx context.Context, c *client.Client, instance string, args []string) error {
			name, host := user(args[0])
			u, err := c.User(ctx, instance, name, host)
			if err != nil {
				return err
			}
			return a.show([]string{"name", "host", "databases"}, row{u.Name, u.Host, names(u.Databases)})
		})
}

func (a *app) userCreate() *cobra.Command {
	var dbs []string
	var file string
	cmd := a.onInstance(&cobra.Command{
		Use: "create INSTANCE USER[@HOST]", Short: "Create a user", Args: cobra.ExactArgs(2),
		Long: "Create a user. The password is asked for, or read from --password-file; without either one is made and shown once.",
	}, func(ctx context.Context, c *client.Client, instance string, args []string) error {
		name, host := user(args[0])
		password, err := a.password(file, "Password of "+name+" (empty: make one): ")
		if err != nil {
			return err
		}
		made := password == ""
		if made {
			password = newPassword()
		}
		u := wire.UserCreate{Name: name, Host: host, Password: password.Reveal()}
		for _, d := range dbs {
			u.Databases = append(u.Databases, wire.Database{Name: d})
		}
		if err := c.CreateUsers(ctx, instance, u); err != nil || !made {
			return err
		}
		return a.show([]string{"name", "password"}, row{name, password.Reveal()})
	})
	cmd.Flags().StringSliceVar(&dbs, "database", nil, "database that the user may use (may be repeated)")
	cmd.Flags().StringVar(&file, "password-file", "", "file with the password in its first line, - for the standard input")
	return cmd
}

func (a *app) userUpdate() *cobra.Command {
	var newName, newHost, file string
	var ask bool
	cmd := a.onInstance(&cobra.Command{Use: "update INSTANCE USER[@HOST]", Short: "Change name, host or password of a user", Args: cobra.ExactArgs(2)},
		func(ctx context.Context, c *client.Client, instance string, args []string) error {
			var change wire.UserUpdate
			if newName != "" {
				change.Name = &newName
			}
			if newHost != "" {
				change.Host = &newHost
			}
			if ask || file != "" {
				p, err := a.password(file, "New password: ")
				if err != nil {
					return err
				}
				if p == "" {
					return trove.Errorf(trove.KindBadRequest, "The new password is empty.")
				}
				text := p.Reveal()
				change.Password = &text
			}
			if change == (wire.UserUpdate{}) {
				return usagef("Nothing to change: give --name, --host, --password or --password-file.")
			}
			name, host := user(args[0])
			return c.UpdateUser(ctx, instance, name, host, change)
		})
	cmd.Flags().StringVar(&newName, "name", "", "new name")
	cmd.Flags().StringVar(&newHost, "host", "", "new host")
	cmd.Flags().BoolVar(&ask, "password", false, "ask for a new password")
	cmd.Flags().StringVar(&file, "password-file", "", "file with the new password in its first line, - for the standard input")
	return cmd
}

func (a *app) userDelete() *cobra.Command {
	return a.onInstance(&cobra.Command{Use: "delete INSTANCE USER[@HOST]", Short: "Delete a user", Args: cobra.ExactArgs(2)},
		func(ctx context.Context, c *client.Client, instance string, args []string) error {
			name, host := user(args[0])
			return c.DeleteUser(ctx, instance, name, host)
		})
}

func (a *app) userGrant() *cobra.Command {
	return a.onInstance(&cobra.Command{Use: "grant INSTANCE USER[@HOST] DATABASE...", Short: "Let a user use databases", Args: cobra.MinimumNArgs(3)},
		func(ctx context.Context, c *client.Client, instance string, args []string) error {
			name, host := user(args[0])
			return c.GrantAccess(ctx, instance, name, host, args[1:]...)
		})
}

func (a *app) userRevoke() *cobra.Command {
	return a.onInstance(&cobra.Command{Use: "revoke INSTANCE USER[@HOST] DATABASE", Short: "Forbid a user a database", Args: cobra.ExactArgs(3)},
		func(ctx context.Context, c *client.Client, instance string, args []string) error {
			name, host := user(args[0])
			return c.RevokeAccess(ctx, instance, name, host, args[1])
		})
}

func (a *app) rootCmd() *cobra.Command {
	show := a.onInstance(&cobra.Command{Use: "show INSTANCE", Short: "Show whether the superuser may log in", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, instance string, _ []string) error {
			on, err := c.RootEnabled(ctx, instance)
			if err != nil {
				return err
			}
			return a.show([]string{"is_root_enabled"}, row{on})
		})
	var file string
	enable := a.onInstance(&cobra.Command{
		Use: "enable INSTANCE", Short: "Let the superuser log in; a password that the server made is shown once", Args: cobra.ExactArgs(1),
	}, func(ctx context.Context, c *client.Client, instance string, _ []string) error {
		var password trove.Secret
		if file != "" {
			var err error
			if password, err = a.password(file, ""); err != nil {
				return err
			}
		}
		u, err := c.EnableRoot(ctx, instance, password.Reveal())
		if err != nil {
			return err
		}
		if password != "" { // who chose it knows it
			return a.show([]string{"name"}, row{u.Name})
		}
		return a.show([]string{"name", "password"}, row{u.Name, u.Password})
	})
	enable.Flags().StringVar(&file, "password-file", "", "file with the wanted password in its first line, - for the standard input")
	disable := a.onInstance(&cobra.Command{Use: "disable INSTANCE", Short: "Forbid the superuser to log in", Args: cobra.ExactArgs(1)},
		func(ctx context.Context, c *client.Client, instance string, _ []string) error {
			return c.DisableRoot(ctx, instance)
		})
	return group("root", "The superuser of an instance", show, enable, disable)
}
