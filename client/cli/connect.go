package cli

import (
	"context"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
)

// engineClient is how an engine's own client is called.
type engineClient struct {
	program    string
	debian     string // the package that has it
	optionFile bool   // it reads --defaults-extra-file
	args       func(host, user, database string) []string
	port       string // its option for a port, with what stands before the number
}

// clients are the engines' own clients by the name of the datastore. Each asks for the password itself, so that none is on a command line.
var clients = map[string]engineClient{
	"mariadb":    {"mariadb", "mariadb-client", true, mysqlArgs, "--port="},
	"mysql":      {"mysql", "default-mysql-client", true, mysqlArgs, "--port="},
	"postgresql": {"psql", "postgresql-client", false, psqlArgs, "--port="},
	"redis":      {"redis-cli", "redis-tools", false, redisArgs, "-p"},
	"valkey":     {"valkey-cli", "valkey-tools", false, redisArgs, "-p"},
}

func mysqlArgs(host, user, database string) []string {
	args := []string{"--host=" + host, "--user=" + user, "--password"}
	if database != "" {
		args = append(args, database)
	}
	return args
}

func psqlArgs(host, user, database string) []string {
	return []string{"--host=" + host, "--username=" + user, "--dbname=" + orElse(database, "postgres")}
}

func redisArgs(host, user, _ string) []string {
	return []string{"-h", host, "--user", user, "--askpass"}
}

// chooseAddress returns the address to connect to: the first one, or the first public one.
func chooseAddress(i wire.Instance, public bool) (wire.Address, error) {
	for _, a := range i.Addresses {
		if !public || a.Type == "public" {
			return a, nil
		}
	}
	return wire.Address{}, trove.Errorf(trove.KindConflict, "%s has no public address; trove instance update %s --is-public gives it one.", i.Name, i.Name)
}

func orElse(s, d string) string {
	if s == "" {
		return d
	}
	return s
}

func (a *app) instanceConnect() *cobra.Command {
	var user, database, defaults string
	var public bool
	cmd := &cobra.Command{
		Use: "connect INSTANCE", Short: "Open the engine's own client on an instance", Args: cobra.ExactArgs(1), ValidArgsFunction: a.complete(instanceNames),
		Long:    "Open the engine's own client on an instance. The client asks for the password; --defaults-file names a file of the client's that holds it.",
		Example: "  trove instance connect shop --user app --database shop",
		RunE: a.run(func(ctx context.Context, c *client.Client, args []string) error {
			i, err := c.FindInstance(ctx, args[0])
			if err != nil {
				return err
			}
			store := deref(i.Datastore.Type)
			ec, ok := clients[store]
			if !ok {
				return trove.Errorf(trove.KindNotImplemented, "No client is known for the datastore %q; connect to %s with one of your own.", store, strings.Join(addresses(i), ", "))
			}
			if defaults != "" && !ec.optionFile {
				return usagef("--defaults-file is for mariadb and mysql: %s takes none.", ec.program)
			}
			if len(i.Addresses) == 0 {
				return trove.Errorf(trove.KindConflict, "%s has no address yet: its status is %s.", i.Name, i.Status)
			}
			address, err := chooseAddress(i, public)
			if err != nil {
				return err
			}
			path, err := a.env.LookPath(ec.program)
			if err != nil {
				return trove.Wrap(trove.KindNotFound, err, "The client %q is not installed; on Debian: apt-get install %s.", ec.program, ec.debian)
			}
			argv := ec.args(address.Address, user, database)
			if address.Port != 0 {
				argv = append([]string{ec.port + strconv.Itoa(address.Port)}, argv...)
			}
			if defaults != "" {
				argv = append([]string{"--defaults-extra-file=" + defaults}, removePassword(argv)...) // it has to be the first
			}
			return a.env.Exec(path, append([]string{ec.program}, argv...))
		}),
	}
	cmd.Flags().BoolVar(&public, "public", false, "connect to the public address: from outside of the instance's network")
	cmd.Flags().StringVarP(&user, "user", "u", "root", "database user")
	cmd.Flags().StringVarP(&database, "database", "d", "", "database to use")
	cmd.Flags().StringVar(&defaults, "defaults-file", "", "option file of mariadb or mysql, with the password")
	return cmd
}

// removePassword drops the flag that makes the client ask.
func removePassword(args []string) []string {
	out := make([]string, 0, len(args))
	for _, a := range args {
		if a != "--password" {
			out = append(out, a)
		}
	}
	return out
}
