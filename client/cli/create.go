package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/api/wire"
	"github.com/trove-dbaas/trove/client"
)

type createOptions struct {
	flavor, datastore, version, volumeType, zone string
	configuration                                string
	size                                         int
	databases, users, cidrs                      []string
	passwordFile, network, subnet                string
	backup                                       string
	modules                                      []string
	public, wait                                 bool
}

func (a *app) instanceCreate() *cobra.Command {
	var o createOptions
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Create a database instance", Args: cobra.ExactArgs(1),
		Long: "Create a database instance. With --user and no password file, on no terminal, a password is made and shown once.",
		Example: `  trove instance create shop --flavor db.tiny --size 1 --database shop --user app --wait
  trove instance create shop --flavor 2 --size 10 --allowed-cidr 10.0.0.0/8`,
		RunE: a.run(func(ctx context.Context, c *client.Client, args []string) error { return a.create(ctx, c, args[0], o) }),
	}
	f := cmd.Flags()
	f.StringVar(&o.flavor, "flavor", "", "flavor, by name or id (required)")
	f.IntVar(&o.size, "size", 0, "size of the data volume in GiB")
	f.StringVar(&o.volumeType, "volume-type", "", "type of the data volume")
	f.StringVar(&o.datastore, "datastore", "", "datastore (the deployment's default)")
	f.StringVar(&o.version, "datastore-version", "", "version of the datastore (its default)")
	f.StringVar(&o.configuration, "configuration", "", "configuration group, by name or id")
	f.StringSliceVar(&o.databases, "database", nil, "database to make (may be repeated)")
	f.StringSliceVar(&o.users, "user", nil, "user to make, NAME or NAME@HOST, with all rights on the given databases (may be repeated)")
	f.StringVar(&o.passwordFile, "password-file", "", "file with the users' password in its first line, - for the standard input")
	f.StringVar(&o.network, "network", "", "id of the network to attach to")
	f.StringVar(&o.subnet, "subnet", "", "id of the subnet to attach to")
	f.StringVar(&o.zone, "availability-zone", "", "availability zone")
	f.BoolVar(&o.public, "is-public", false, "reachable from outside")
	f.StringSliceVar(&o.cidrs, "allowed-cidr", nil, "address range that may connect (may be repeated)")
	f.StringVar(&o.backup, "backup", "", "backup to make it from, by name or id")
	f.StringSliceVar(&o.modules, "module", nil, "module to apply, by name or id (may be repeated)")
	waitFlag(cmd, &o.wait, "return when a client can connect, and show what goes on")
	_ = cmd.MarkFlagRequired("flavor")
	_ = cmd.RegisterFlagCompletionFunc("flavor", a.completeMany(flavorNames))
	_ = cmd.RegisterFlagCompletionFunc("datastore", a.completeMany(datastoreNames))
	_ = cmd.RegisterFlagCompletionFunc("backup", a.completeMany(backupNames))
	_ = cmd.RegisterFlagCompletionFunc("module", a.completeMany(moduleNames))
	return cmd
}

func (a *app) create(ctx context.Context, c *client.Client, name string, o createOptions) error {
	f, err := findFlavor(ctx, c, o.flavor)
	if err != nil {
		return err
	}
	spec := wire.InstanceCreate{Name: name, FlavorRef: wire.Ref(f.StrID), AvailabilityZone: o.zone}
	if o.size != 0 {
		spec.Volume = &wire.VolumeCreate{Size: wire.Size(o.size)}
		if o.volumeType != "" {
			spec.Volume.Type = &o.volumeType
		}
	}
	if o.datastore != "" || o.version != "" {
		spec.Datastore = &wire.DatastoreChoice{Type: o.datastore, Version: o.version}
	}
	if o.configuration != "" {
		g, err := c.FindConfiguration(ctx, o.configuration)
		if err != nil {
			return err
		}
		spec.Configuration = g.ID
	}
	if o.network != "" || o.subnet != "" {
		spec.NICs = []wire.NIC{{NetworkID: o.network, SubnetID: o.subnet}}
	}
	spec.Access = &wire.AccessRequest{IsPublic: &o.public}
	if o.cidrs != nil {
		spec.Access.AllowedCIDRs = &o.cidrs
	}
	if err := addParts(ctx, c, &spec, o); err != nil {
		return err
	}
	made, err := a.createUsers(&spec, o)
	if err != nil {
		return err
	}
	var op string
	i, err := c.CreateInstance(client.Began(ctx, &op), spec)
	if err != nil {
		return err
	}
	var extra []any
	if made != "" {
		extra = []any{"password", made.Reveal()}
	}
	if !o.wait {
		return a.showInstance(i, extra...)
	}
	if err := a.wait(ctx, c, i, op); err != nil {
		if _, failed := errors.AsType[*failedError](err); !failed && made != "" {
			return errors.Join(err, a.showInstance(i, extra...)) // the instance may well come to be, and nobody else knows the password
		}
		return err
	}
	err = a.patiently(ctx, &liveLine{env: a.env}, func() error {
		now, err := c.Instance(ctx, i.ID)
		if err == nil {
			i = now
		}
		return err
	})
	return errors.Join(err, a.showInstance(i, extra...))
}

// addParts puts the backup and the modules into the request.
func addParts(ctx context.Context, c *client.Client, spec *wire.InstanceCreate, o createOptions) error {
	if o.backup != "" {
		b, err := c.FindBackup(ctx, o.backup)
		if err != nil {
			return err
		}
		spec.RestorePoint = &wire.RestorePoint{BackupRef: b.ID}
	}
	for _, name := range o.modules {
		m, err := c.FindModule(ctx, name)
		if err != nil {
			return err
		}
		spec.Modules = append(spec.Modules, wire.ModuleRef{ID: m.ID})
	}
	return nil
}

// createUsers puts databases and users into the request. It returns the password if it had to make one.
func (a *app) createUsers(spec *wire.InstanceCreate, o createOptions) (trove.Secret, error) {
	var dbs []wire.Database
	for _, d := range o.databases {
		spec.Databases = append(spec.Databases, wire.DatabaseCreate{Name: d})
		dbs = append(dbs, wire.Database{Name: d})
	}
	if len(o.users) == 0 {
		return "", nil
	}
	password, err := a.password(o.passwordFile, "Password of the new users (empty: make one): ")
	if err != nil {
		return "", err
	}
	var made trove.Secret
	if password == "" {
		made = newPassword()
		password = made
	}
	for _, u := range o.users {
		name, host := user(u)
		spec.Users = append(spec.Users, wire.UserCreate{Name: name, Host: host, Password: password.Reveal(), Databases: dbs})
	}
	return made, nil
}

// newPassword makes a password of 24 letters and digits (142 bits) that needs no quoting anywhere.
func newPassword() trove.Secret {
	const letters = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789" // without those that look alike
	var out strings.Builder
	for out.Len() < 24 {
		var b [1]byte
		_, _ = rand.Read(b[:])
		if n := int(b[0]); n < 256/len(letters)*len(letters) { // no letter is more likely than another
			out.WriteByte(letters[n%len(letters)])
		}
	}
	return trove.Secret(out.String())
}
