package cli

import (
	"context"
	"fmt"
	"slices"
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
	root       string // the superuser's name
	secure     func(a *app, ctx context.Context, path, authorities string) (secured, error)
	anyName    bool // it believes every certificate of the authorities, whatever name is in it
}

// clients are the engines' own clients by the name of the datastore. Each asks for the password itself, so that none is on a command line.
var clients = map[string]engineClient{
	"mariadb":    {"mariadb", "mariadb-client", true, mysqlArgs, "--port=", "root", (*app).secureMySQL, false},
	"mysql":      {"mysql", "default-mysql-client", true, mysqlArgs, "--port=", "root", (*app).secureMySQL, false},
	"postgresql": {"psql", "postgresql-client", false, psqlArgs, "--port=", "postgres", (*app).securePostgreSQL, false},
	"redis":      {"redis-cli", "redis-tools", false, redisArgs, "-p", "default", (*app).secureRedis, true},
	"valkey":     {"valkey-cli", "valkey-tools", false, redisArgs, "-p", "default", (*app).secureRedis, true},
}

func mysqlArgs(host, user, database string) []string {
	args := []string{"--host=" + host}
	if user != "" {
		args = append(args, "--user="+user)
	}
	args = append(args, "--password")
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

// securePort returns where TLS is spoken at an address. An engine with a port of its own for TLS has that, or where it has ports of the host the second of
// the two at this address: they are in the order of the engine's.
func securePort(i wire.Instance, at wire.Address, tlsPort int) int {
	if tlsPort == 0 {
		return at.Port
	}
	for _, a := range i.Addresses {
		if at.Port != 0 && a.Type == at.Type && a.Address == at.Address && a.Port != at.Port {
			return a.Port
		}
	}
	return tlsPort
}

func orElse(s, d string) string {
	if s == "" {
		return d
	}
	return s
}

// connection is what a user asks of instance connect.
type connection struct {
	user, database, defaults string
	public, noVerify         bool
}

func (a *app) instanceConnect() *cobra.Command {
	var o connection
	cmd := &cobra.Command{
		Use: "connect INSTANCE", Short: "Open the engine's own client on an instance", Args: cobra.ExactArgs(1), ValidArgsFunction: a.complete(instanceNames),
		Long: `Open the engine's own client on an instance, over TLS. The client believes a certificate of the deployment's authorities alone, those of trove ssl ca; where
TLS is off, or the certificate is one that the service did not make, it is opened all the same and a sentence says what is not verified. redis-cli and
valkey-cli verify who made the certificate and not for which instance. The client asks for the password; --defaults-file names a file of the client's that
holds it. Without --user it is the instance's first user, or else root if that is enabled.`,
		Example: "  trove instance connect shop --user app --database shop",
		RunE: a.run(func(ctx context.Context, c *client.Client, args []string) error {
			i, err := c.FindInstance(ctx, args[0])
			if err != nil {
				return err
			}
			return a.connect(ctx, c, i, o)
		}),
	}
	f := cmd.Flags()
	f.BoolVar(&o.public, "public", false, "connect to the public address: from outside of the instance's network")
	f.BoolVar(&o.noVerify, "no-verify", false, "believe every certificate")
	f.StringVarP(&o.user, "user", "u", "", "database user (the instance's first)")
	f.StringVarP(&o.database, "database", "d", "", "database to use")
	f.StringVar(&o.defaults, "defaults-file", "", "option file of mariadb or mysql, with the password")
	return cmd
}

func (a *app) connect(ctx context.Context, c *client.Client, i wire.Instance, o connection) error {
	store := deref(i.Datastore.Type)
	ec, ok := clients[store]
	if !ok {
		return trove.Errorf(trove.KindNotImplemented, "No client is known for the datastore %q; connect to %s with one of your own.", store, strings.Join(addresses(i), ", "))
	}
	if o.defaults != "" && !ec.optionFile {
		return usagef("--defaults-file is for mariadb and mysql: %s takes none.", ec.program)
	}
	if len(i.Addresses) == 0 {
		return trove.Errorf(trove.KindConflict, "%s has no address yet: its status is %s.", i.Name, i.Status)
	}
	address, err := chooseAddress(i, o.public)
	if err != nil {
		return err
	}
	path, err := a.env.LookPath(ec.program)
	if err != nil {
		return trove.Wrap(trove.KindNotFound, err, "The client %q is not installed; on Debian: apt-get install %s.", ec.program, ec.debian)
	}
	if o.user == "" && o.defaults == "" { // the file may name one
		if o.user, err = a.someUser(ctx, c, i, ec.root); err != nil {
			return err
		}
	}
	trust, err := a.trustIn(ctx, c, i, o.noVerify)
	if err != nil {
		return err
	}
	var s secured
	if trust.tls {
		if s, err = ec.secure(a, ctx, path, trust.authorities); err != nil {
			return err
		}
		address.Port = securePort(i, address, trust.port)
	}
	switch {
	case trust.doubt != "":
		fmt.Fprintln(a.env.Stderr, trust.doubt)
	case ec.anyName:
		fmt.Fprintf(a.env.Stderr, "%s verifies that the certificate is of this deployment, and not that it is of %s.\n", ec.program, i.Name)
	}
	argv := slices.Concat(s.args, ec.args(address.Address, o.user, o.database))
	if address.Port != 0 {
		argv = append(portArgs(ec.port, address.Port), argv...)
	}
	if o.defaults != "" {
		argv = append([]string{"--defaults-extra-file=" + o.defaults}, removePassword(argv)...) // it has to be the first
	}
	return a.env.Exec(path, append([]string{ec.program}, argv...), s.env)
}

// portArgs are the arguments for a port: one for an option with "=", otherwise two.
func portArgs(option string, port int) []string {
	if strings.HasSuffix(option, "=") {
		return []string{option + strconv.Itoa(port)}
	}
	return []string{option, strconv.Itoa(port)}
}

// someUser returns who to log in as where nobody was named.
func (a *app) someUser(ctx context.Context, c *client.Client, i wire.Instance, root string) (string, error) {
	users, err := c.Users(ctx, i.ID)
	if err != nil {
		return "", fmt.Errorf("find a user of %s, --user names one: %w", i.Name, err)
	}
	if len(users) > 0 {
		fmt.Fprintf(a.env.Stderr, "Connecting to %s as %s.\n", i.Name, users[0].Name)
		return users[0].Name, nil
	}
	enabled, err := c.RootEnabled(ctx, i.ID)
	if err != nil {
		return "", fmt.Errorf("find a user of %s, --user names one: %w", i.Name, err)
	}
	if !enabled {
		return "", trove.Errorf(trove.KindConflict, "%s has no user: trove user create %s NAME makes one, trove root enable %s enables %s.", i.Name, i.Name, i.Name, root)
	}
	fmt.Fprintf(a.env.Stderr, "Connecting to %s as %s.\n", i.Name, root)
	return root, nil
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
