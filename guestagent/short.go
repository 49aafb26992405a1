package guestagent

import (
	"context"
	"errors"
	"slices"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/guestapi"
)

type shortFunc func(ctx context.Context, a *Agent, r guestapi.Request) (any, error)

// shortCommands are answered with their result. CmdPing and CmdStatus are answered by the responder itself.
var shortCommands = map[guestapi.Command]shortFunc{
	guestapi.CmdListDatabases:  asked(listDatabases),
	guestapi.CmdCreateDatabase: asked(with(createDatabases)),
	guestapi.CmdDropDatabase:   asked(with(dropDatabase)),
	guestapi.CmdListUsers:      asked(listUsers),
	guestapi.CmdCreateUser:     asked(with(createUsers)),
	guestapi.CmdDropUser:       asked(with(dropUser)),
	guestapi.CmdUpdateUser:     asked(with(updateUser)),
	guestapi.CmdGrant:          asked(with(grant)),
	guestapi.CmdRevoke:         asked(with(revoke)),
	guestapi.CmdEnableRoot:     asked(with(enableRoot)),
	guestapi.CmdDisableRoot:    asked(disableRoot),
	guestapi.CmdRootEnabled:    asked(rootEnabled),
	guestapi.CmdVolume:         volume,
	guestapi.CmdRenewIdentity:  renewIdentity,
	guestapi.CmdLogs:           listLogs,
	guestapi.CmdSetLog:         setLog,
	guestapi.CmdPublishLog:     publishLog,
	guestapi.CmdTailLog:        tailLog,
	guestapi.CmdMetrics:        needsEngine(metrics),
	guestapi.CmdStatements:     needsEngine(statements),
	guestapi.CmdDrift:          needsEngine(drift),
	guestapi.CmdMachine:        machine,
	guestapi.CmdShowTLS:        showTLS,
	guestapi.CmdSetTLS:         setTLS,
	guestapi.CmdRollbackTLS:    rollbackTLS,

	guestapi.CmdCheckUpgrade: needsEngine(checkUpgrade),

	guestapi.CmdRequestCertificate: requestCertificate,
	guestapi.CmdUseCertificate:     useCertificate,

	guestapi.CmdApplyConfiguration: needsEngine(applyConfiguration),
}

// commands is what hello lists.
func (a *Agent) commands() []guestapi.Command {
	all := []guestapi.Command{guestapi.CmdPing, guestapi.CmdStatus}
	for c := range shortCommands {
		all = append(all, c)
	}
	for c := range longCommands {
		if c != guestapi.CmdUpgradeAgent || a.cfg.Upgrade != nil {
			all = append(all, c)
		}
	}
	all = skewCommands(all)
	slices.Sort(all)
	return all
}

// server is the engine as a command sees it.
type server struct {
	engine.Engine
	layout engine.Layout
	hosts  bool // users are bound to hosts
}

// asked makes a command of something that needs the engine to be up.
func asked(f func(ctx context.Context, s server, r guestapi.Request) (any, error)) shortFunc {
	return func(ctx context.Context, a *Agent, r guestapi.Request) (any, error) {
		if now := a.supervisor.Service(); !now.Up {
			return nil, trove.Errorf(trove.KindUnavailable, "The database is not up: its status is %q.", string(now.Status))
		}
		e := a.cfg.Engine
		result, err := f(ctx, server{Engine: e, layout: a.cfg.Layout, hosts: e.Info().Capabilities.UserHosts}, r)
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, trove.Wrap(trove.KindUnavailable, err, "The database did not answer within %s.", shortTimeout)
		}
		return result, err
	}
}

// with decodes the arguments.
func with[T any](f func(ctx context.Context, s server, args T) error) func(context.Context, server, guestapi.Request) (any, error) {
	return func(ctx context.Context, s server, r guestapi.Request) (any, error) {
		var args T
		if err := decodeArgs(r, &args); err != nil {
			return nil, err
		}
		return nil, f(ctx, s, args)
	}
}

// host returns the host that a user is bound to: "%" where none was given.
func (s server) host(h string) string {
	if h == "" && s.hosts {
		return "%"
	}
	return h
}

func listDatabases(ctx context.Context, s server, _ guestapi.Request) (any, error) {
	all, err := s.Databases(ctx, s.layout)
	return append([]trove.Database{}, all...), err
}

func createDatabases(ctx context.Context, s server, all []trove.Database) error {
	for _, d := range all {
		if err := s.CreateDatabase(ctx, s.layout, d); err != nil {
			return err
		}
	}
	return nil
}

func dropDatabase(ctx context.Context, s server, args guestapi.NameArgs) error {
	return s.DropDatabase(ctx, s.layout, args.Name)
}

func listUsers(ctx context.Context, s server, _ guestapi.Request) (any, error) {
	all, err := s.Users(ctx, s.layout)
	return append([]trove.User{}, all...), err
}

func createUsers(ctx context.Context, s server, all []guestapi.UserArgs) error {
	for _, u := range all {
		if err := s.CreateUser(ctx, s.layout, s.user(u)); err != nil {
			return err
		}
	}
	return nil
}

func (s server) user(u guestapi.UserArgs) trove.User {
	return trove.User{Name: u.Name, Host: s.host(u.Host), Password: trove.Secret(u.Password), Databases: u.Databases}
}

func dropUser(ctx context.Context, s server, args guestapi.UserRef) error {
	return s.DropUser(ctx, s.layout, args.Name, s.host(args.Host))
}

func updateUser(ctx context.Context, s server, args guestapi.UpdateUserArgs) error {
	change := engine.UserChange{Name: args.NewName, Host: args.NewHost}
	if args.NewPassword != nil {
		password := trove.Secret(*args.NewPassword)
		change.Password = &password
	}
	return s.UpdateUser(ctx, s.layout, args.Name, s.host(args.Host), change)
}

func grant(ctx context.Context, s server, args guestapi.GrantArgs) error {
	return s.Grant(ctx, s.layout, args.Name, s.host(args.Host), args.Databases)
}

func revoke(ctx context.Context, s server, args guestapi.GrantArgs) error {
	if len(args.Databases) != 1 {
		return trove.Errorf(trove.KindBadRequest, "A right is taken from one database at a time.")
	}
	return s.Revoke(ctx, s.layout, args.Name, s.host(args.Host), args.Databases[0])
}

func enableRoot(ctx context.Context, s server, args guestapi.RootArgs) error {
	if args.Password == "" {
		return trove.Errorf(trove.KindBadRequest, "Root needs a password.")
	}
	return s.EnableRoot(ctx, s.layout, trove.Secret(args.Password))
}

func disableRoot(ctx context.Context, s server, _ guestapi.Request) (any, error) {
	return nil, s.DisableRoot(ctx, s.layout)
}

func rootEnabled(ctx context.Context, s server, _ guestapi.Request) (any, error) {
	return s.RootEnabled(ctx, s.layout)
}

func volume(_ context.Context, a *Agent, _ guestapi.Request) (any, error) {
	return volumeUsage(a.cfg.Layout.Data)
}

// renewIdentity answers with a function: the new credential is used after the answer went out over the old connection.
func renewIdentity(ctx context.Context, a *Agent, r guestapi.Request) (any, error) {
	if a.cfg.Renew == nil {
		return nil, trove.Errorf(trove.KindNotImplemented, "This guest's identity cannot be renewed.")
	}
	var c bus.Credential
	if err := decodeArgs(r, &c); err != nil {
		return nil, err
	}
	return a.cfg.Renew(ctx, c)
}
