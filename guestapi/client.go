package guestapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/internal/telemetry"
)

// How long a guest may take to answer when the caller's context has no nearer deadline.
const (
	journalTimeout = 2 * time.Second  // Start and Status look into the guest's journal
	shortTimeout   = 15 * time.Second // Trove's agent_call_low_timeout
)

// MaxMessage is the size in bytes above which the bus refuses a message.
const MaxMessage = 256 << 10

// Client gives commands to guests. Its errors have the kind that the guest said; KindUnavailable means that the guest is not connected or did
// not answer in time, and that the same call may be given again: every command does the same when it comes twice. If ctx was cancelled
// its error is returned. A Client may be used from several goroutines.
type Client struct {
	conn bus.Conn
}

// NewClient returns a client that sends over the connection. It should not be the one that receives reports: a flood of those
// would make requests late.
func NewClient(conn bus.Conn) *Client { return &Client{conn: conn} }

// Start gives a long command under an operation id and returns its state in the guest's journal. A command that the guest has already
// under this id is not begun again.
func (c *Client) Start(ctx context.Context, instance, opID string, cmd Command, args any) (OperationStatus, error) {
	var st OperationStatus
	if err := c.call(ctx, journalTimeout, instance, opID, cmd, args, &st); err != nil {
		return OperationStatus{}, err
	}
	return checkAnswer(st, opID)
}

// Status asks for the state of a long command. StateUnknown: the guest does not have it, it should be given again. After the answer to
// Status for an operation that has ended the guest stops sending its end report.
func (c *Client) Status(ctx context.Context, instance, opID string) (OperationStatus, error) {
	var st OperationStatus
	if err := c.call(ctx, journalTimeout, instance, trove.NewID(), CmdStatus, StatusArgs{ID: opID}, &st); err != nil {
		return OperationStatus{}, err
	}
	return checkAnswer(st, opID)
}

// Withdraw makes sure that a long command which was given is not begun any more, however late it arrives, and reports whether the guest has it already. Status
// cannot say that: it may overtake the command on its way. A guest keeps to the first command that comes under an id and refuses every other, so this gives
// it one under the same id that does nothing: a grow to no size, which agents of every release know. It may be repeated; afterwards Status tells of the one that
// came first, whichever that was. A command of the kind grow cannot be withdrawn.
func (c *Client) Withdraw(ctx context.Context, instance, opID string) (begun bool, err error) {
	_, err = c.Start(ctx, instance, opID, CmdGrow, GrowArgs{})
	if trove.KindOf(err) == trove.KindConflict {
		return true, nil
	}
	return false, err
}

func checkAnswer(st OperationStatus, opID string) (OperationStatus, error) {
	if st.ID != opID {
		return OperationStatus{}, trove.Errorf(trove.KindInternal, "The guest answered for another operation.")
	}
	if st.State == StateUnknown {
		return OperationStatus{ID: opID, State: StateUnknown}, nil
	}
	return checkStatus(st)
}

// Ping asks the guest who it is.
func (c *Client) Ping(ctx context.Context, instance string) (Hello, error) {
	var h Hello
	if err := c.short(ctx, instance, CmdPing, nil, &h); err != nil {
		return Hello{}, err
	}
	return checkHello(h)
}

// ListDatabases returns the databases of the engine without its own.
func (c *Client) ListDatabases(ctx context.Context, instance string) ([]trove.Database, error) {
	var list []trove.Database
	return list, c.short(ctx, instance, CmdListDatabases, nil, &list)
}

// CreateDatabases creates databases, one after the other; KindConflict if the next one exists.
func (c *Client) CreateDatabases(ctx context.Context, instance string, databases []trove.Database) error {
	return c.short(ctx, instance, CmdCreateDatabase, databases, nil)
}

// DropDatabase drops a database; KindNotFound if there is none.
func (c *Client) DropDatabase(ctx context.Context, instance, name string) error {
	return c.short(ctx, instance, CmdDropDatabase, NameArgs{Name: name}, nil)
}

// ListUsers returns the users of the engine without its own.
func (c *Client) ListUsers(ctx context.Context, instance string) ([]trove.User, error) {
	var list []trove.User
	return list, c.short(ctx, instance, CmdListUsers, nil, &list)
}

// CreateUsers creates users with their rights, one after the other; KindConflict if the next one exists.
func (c *Client) CreateUsers(ctx context.Context, instance string, users []UserArgs) error {
	return c.short(ctx, instance, CmdCreateUser, users, nil)
}

// DropUser drops a user; KindNotFound if there is none.
func (c *Client) DropUser(ctx context.Context, instance string, user UserRef) error {
	return c.short(ctx, instance, CmdDropUser, user, nil)
}

// UpdateUser changes name, host or password of a user.
func (c *Client) UpdateUser(ctx context.Context, instance string, change UpdateUserArgs) error {
	return c.short(ctx, instance, CmdUpdateUser, change, nil)
}

// Grant gives a user the right to use databases.
func (c *Client) Grant(ctx context.Context, instance string, user UserRef, databases []string) error {
	return c.short(ctx, instance, CmdGrant, GrantArgs{UserRef: user, Databases: databases}, nil)
}

// Revoke takes the right to one database from a user.
func (c *Client) Revoke(ctx context.Context, instance string, user UserRef, database string) error {
	return c.short(ctx, instance, CmdRevoke, GrantArgs{UserRef: user, Databases: []string{database}}, nil)
}

// EnableRoot enables the superuser with this password, or gives it a new one.
func (c *Client) EnableRoot(ctx context.Context, instance string, password trove.Secret) error {
	return c.short(ctx, instance, CmdEnableRoot, RootArgs{Password: password.Reveal()}, nil)
}

// DisableRoot disables the superuser.
func (c *Client) DisableRoot(ctx context.Context, instance string) error {
	return c.short(ctx, instance, CmdDisableRoot, nil, nil)
}

// RootEnabled reports whether the superuser can log in.
func (c *Client) RootEnabled(ctx context.Context, instance string) (bool, error) {
	var enabled bool
	return enabled, c.short(ctx, instance, CmdRootEnabled, nil, &enabled)
}

// Volume returns how full the data volume is.
func (c *Client) Volume(ctx context.Context, instance string) (VolumeUsage, error) {
	var usage VolumeUsage
	if err := c.short(ctx, instance, CmdVolume, nil, &usage); err != nil {
		return VolumeUsage{}, err
	}
	if usage.Used < 0 || usage.Total < 0 {
		return VolumeUsage{}, trove.Errorf(trove.KindInternal, "The guest reported a negative size of its volume.")
	}
	return usage, nil
}

// RenewIdentity hands the guest a new credential for the key that it has. It connects anew with it.
func (c *Client) RenewIdentity(ctx context.Context, instance string, credential bus.Credential) error {
	return c.short(ctx, instance, CmdRenewIdentity, credential, nil)
}

func (c *Client) short(ctx context.Context, instance string, cmd Command, args, result any) error {
	return c.call(ctx, shortTimeout, instance, trove.NewID(), cmd, args, result)
}

func (c *Client) call(ctx context.Context, limit time.Duration, instance, id string, cmd Command, args, result any) error {
	if !trove.ValidID(instance) {
		return trove.Errorf(trove.KindBadRequest, "%q is not the id of an instance.", instance)
	}
	data, err := encodeRequest(ctx, id, cmd, args)
	if err != nil {
		return err
	}
	if err := c.knows(ctx, instance, cmd); err != nil {
		return err
	}
	callCtx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	answer, err := c.conn.Request(callCtx, CommandSubject(instance), data)
	if err != nil {
		return requestError(ctx, err, instance, cmd)
	}
	if err := decodeResponse(answer, result); err != nil {
		return fmt.Errorf("command %s to the guest of %s: %w", cmd, instance, err)
	}
	return nil
}

// firstCommands are those that every agent has had since the first release.
var firstCommands = map[Command]bool{
	CmdPrepare: true, CmdRestart: true, CmdConfigure: true, CmdStop: true, CmdGrow: true, CmdStatus: true, CmdPing: true,
	CmdListDatabases: true, CmdCreateDatabase: true, CmdDropDatabase: true, CmdListUsers: true, CmdCreateUser: true, CmdDropUser: true,
	CmdUpdateUser: true, CmdGrant: true, CmdRevoke: true, CmdEnableRoot: true, CmdDisableRoot: true, CmdRootEnabled: true, CmdVolume: true,
	CmdRenewIdentity: true,
}

// First reports whether every agent has had the command since the first release.
func First(c Command) bool { return firstCommands[c] }

// knows asks the guest whether it has a command that came later. It is asked each time: an agent may be replaced, by an older one too.
func (c *Client) knows(ctx context.Context, instance string, cmd Command) error {
	if firstCommands[cmd] {
		return nil
	}
	h, err := c.Ping(ctx, instance)
	if err != nil {
		return err
	}
	if !slices.Contains(h.Commands, cmd) {
		return trove.Permanent(trove.Errorf(trove.KindNotImplemented,
			"The guest agent of instance %s (version %s) does not know the command %q: upgrade the agent first.", instance, h.AgentVersion, string(cmd)))
	}
	return nil
}

func requestError(ctx context.Context, err error, instance string, cmd Command) error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("command %s to the guest of %s: %w", cmd, instance, err)
	case errors.Is(err, bus.ErrNoResponder):
		return trove.Wrap(trove.KindUnavailable, err, "The guest agent of instance %s is not connected.", instance)
	case errors.Is(err, context.DeadlineExceeded):
		return trove.Wrap(trove.KindUnavailable, err, "The guest agent of instance %s did not answer the command %s in time.", instance, cmd)
	case errors.Is(err, bus.ErrForbidden):
		return fmt.Errorf("command %s to the guest of %s: %w", cmd, instance, trove.Permanent(err))
	default:
		return trove.Wrap(trove.KindUnavailable, err, "The guest agent of instance %s could not be reached.", instance)
	}
}

func encodeRequest(ctx context.Context, id string, cmd Command, args any) ([]byte, error) {
	r := Request{V: Version, ID: id, Command: cmd, RequestID: telemetry.RequestID(ctx)}
	if args != nil {
		raw, err := json.Marshal(args)
		if err != nil {
			return nil, fmt.Errorf("encode the arguments of command %s: %w", cmd, trove.Permanent(err))
		}
		r.Args = raw
	}
	data, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode command %s: %w", cmd, trove.Permanent(err))
	}
	if len(data) > MaxMessage {
		return nil, trove.Errorf(trove.KindOverLimit, "The command %s with its arguments is larger than %d bytes.", cmd, MaxMessage)
	}
	return data, nil
}

func decodeResponse(data []byte, result any) error {
	var r Response
	if err := json.Unmarshal(data, &r); err != nil {
		return trove.Wrap(trove.KindInternal, err, "The guest's answer cannot be read.")
	}
	if r.V != Version {
		return trove.Errorf(trove.KindInternal, "The guest answered in version %d of the protocol; version %d is spoken here.", r.V, Version)
	}
	if r.Error != nil {
		return r.Error.Err()
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(r.Result, result); err != nil {
		return trove.Wrap(trove.KindInternal, err, "The guest's answer cannot be read.")
	}
	return nil
}
