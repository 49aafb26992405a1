// Package guestapp wires the guest's program: configuration, engines by name, the bus client, the agent. It holds no logic of its own.
//
// What it links is part of what an attacker finds in a guest and of the agent's memory: no broker, no SQL store, no router. modules.txt lists the
// linked modules; a test compares. Agent and Initialise are called once in a process.
package guestapp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/natsbus"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/engine/fake"
	"github.com/trove-dbaas/trove/guestagent"
	"github.com/trove-dbaas/trove/guestagent/machine"
	"github.com/trove-dbaas/trove/guestagent/objects"
	"github.com/trove-dbaas/trove/guestagent/slots"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/engines"
	"github.com/trove-dbaas/trove/internal/netns"
)

// Options say where things are in the guest.
type Options struct {
	Boot    string // file with bus.BootData
	Data    string // mount point of the data volume
	State   string // the agent's own directory on it, "": trove below Data
	Runtime string // the tmpfs directory
	Root    string // prefix of the product's programs
	User    string // the account that the engine runs as, "": the engine's own
	Address string // that the engine listens on, "": all
	Version string
	Log     *slog.Logger

	Management string // file of the network namespace from which controllers are reached; where there is none, they are reached from here
	GrowVolume bool   // the guest itself lets the file system of the data volume grow
	Console    string // device where the agent says what it does until it is on the bus; "": it does not

	Releases    string // directory of the agent's releases
	ReleaseKeys string // public keys of those who sign them
}

// Engine returns the driver with the name; NotFound if there is none.
func Engine(name string, log *slog.Logger) (engine.Engine, error) {
	for _, e := range append(engines.All(log, clock.System{}), fake.New()) {
		if e.Info().Manager == name {
			return e, nil
		}
	}
	return nil, trove.Errorf(trove.KindNotFound, "There is no engine %q in this agent.", name)
}

// smallHeap is the garbage collector's target: an agent at rest has next to nothing on its heap, and at the default the runtime would let it grow to
// 4 MiB before it looked.
const smallHeap = 25

// untilRest is how long after its start, and after it has joined the bus, the agent begins to be sparing with memory.
const untilRest = 10 * time.Second

// Agent runs the agent until ctx ends. An error means that it cannot work here.
func Agent(ctx context.Context, o Options) error {
	// Not while it starts, when collecting took a tenth of its processor time.
	time.AfterFunc(untilRest, func() { debug.SetGCPercent(smallHeap) })
	screen := openConsole(o.Console, o.Log)
	defer screen.close()
	o.Log = screen.log
	boot, err := readBoot(o.Boot)
	if err != nil {
		return err
	}
	e, err := Engine(boot.Engine, o.Log)
	if err != nil {
		return err
	}
	l, err := o.layout(e)
	if err != nil {
		return err
	}
	bootID, err := guestagent.BootID()
	if err != nil {
		return err
	}
	j := &joiner{
		boot: boot, dir: filepath.Join(l.State, "identity"), log: o.Log, joined: screen.joined, dial: netns.Dialer(o.Management, *natsbus.Dialer()),
	}
	gateway := objects.New(j, clock.System{}, o.Log)
	gateway.Dial = netns.Dialer(o.Management, net.Dialer{})
	a, err := guestagent.New(guestagent.Config{
		Instance: boot.Instance, BootID: bootID, Version: o.Version, Engine: e, Layout: l,
		Connect: j.connect, Renew: j.renew, Objects: gateway, Upgrade: o.upgrade(j, gateway), Clock: clock.System{}, Log: o.Log, Grow: o.grow(),
	})
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// upgrade returns what the agent needs to be replaced; nil where its first process cannot do that.
func (o Options) upgrade(j *joiner, gateway *objects.Client) *guestagent.Upgrade {
	image, ok := os.LookupEnv(slots.EnvInit)
	if !ok || o.Releases == "" {
		return nil
	}
	return &guestagent.Upgrade{Slots: slots.Dir(o.Releases), Keys: o.ReleaseKeys, Image: image, Bus: j.addresses, Fetch: gateway.Get}
}

// grow returns what lets the data volume's file system fill a volume that has grown; nil where the host does it.
func (o Options) grow() func() (int64, error) {
	if !o.GrowVolume {
		return nil
	}
	return func() (int64, error) {
		size, _, err := machine.Grow(machine.Config{Data: o.Data})
		return size, err
	}
}

func readBoot(path string) (bus.BootData, error) {
	var b bus.BootData
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &b)
	}
	if err != nil {
		return b, fmt.Errorf("read the boot data: %w", err)
	}
	return b, nil
}

// layout makes the agent's directories and finds the engine's account.
func (o Options) layout(e engine.Engine) (engine.Layout, error) {
	l := engine.Layout{Root: o.Root, Data: o.Data, Runtime: o.Runtime, State: o.State, Address: o.Address}
	if l.State == "" {
		l.State = filepath.Join(o.Data, "trove")
	}
	name := o.User
	if name == "" {
		name = e.Info().User
	}
	u, err := user.Lookup(name)
	if err != nil {
		return l, fmt.Errorf("find the engine's account: %w", err)
	}
	uid, err := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err, err2); err != nil {
		return l, fmt.Errorf("find the engine's account: %w", err)
	}
	l.UID, l.GID = uid, gid
	for dir, mode := range map[string]os.FileMode{l.State: 0o700, l.Runtime: 0o711} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return l, fmt.Errorf("make the agent's directories: %w", err)
		}
		if err := os.Chmod(dir, mode); err != nil {
			return l, fmt.Errorf("make the agent's directories: %w", err)
		}
	}
	return l, nil
}

// joiner joins the bus. Its fields are set before the agent runs; conn is set by connect, before the first command can ask for renew.
type joiner struct {
	boot bus.BootData
	dir  string
	log  *slog.Logger
	conn *natsbus.GuestConn

	joined func() // called after each connect
	dial   natsbus.DialFunc
}

func (j *joiner) connect(ctx context.Context, connected func()) (bus.Conn, error) {
	tried := func(err error) { j.log.WarnContext(ctx, "controllers did not enrol this guest yet", "err", err) }
	if err := natsbus.EnrolBy(ctx, j.dial, j.boot, j.dir, tried); err != nil {
		return nil, err
	}
	conn, err := natsbus.DialGuest(ctx, j.dir, natsbus.Options{
		Log: j.log, Clock: clock.System{}, Dial: j.dial, OnConnect: func(context.Context) { j.joined(); connected() },
	})
	if err != nil {
		return nil, err
	}
	j.conn = conn
	// The TLS handshake over HTTPS left more garbage than the agent will ever make again. Not now: somebody waits for the first command.
	time.AfterFunc(untilRest, debug.FreeOSMemory)
	return conn, nil
}

// Sign implements objects.Identity.
func (j *joiner) Sign(text []byte) ([]byte, error) { return j.conn.Sign(text) }

// CABundle implements objects.Identity.
func (j *joiner) CABundle() (string, error) { return j.conn.CABundle() }

// CertificateTime implements objects.Identity.
func (j *joiner) CertificateTime() time.Time { return j.conn.CertificateTime() }

// addresses returns where the bus is. It is called by commands, which come over it.
func (j *joiner) addresses() []string {
	all, err := j.conn.Addresses()
	if err != nil {
		j.log.Error("addresses of the bus were unreadable", "err", err)
	}
	return all
}

// renew takes a new credential in, if it works, and uses it after the answer went out.
func (j *joiner) renew(ctx context.Context, c bus.Credential) (func(), error) {
	use, err := j.conn.AcceptCredential(ctx, c)
	if err != nil {
		return nil, err
	}
	return func() {
		if err := use(); err != nil {
			j.log.ErrorContext(ctx, "new credential could not be used", "err", err)
		}
	}, nil
}

// Initialise makes an engine's empty data directory: the image builder runs it inside the image's root. It writes a line for each step and does nothing
// on a directory that is initialised.
func Initialise(ctx context.Context, name string, o Options, out io.Writer) error {
	e, err := Engine(name, o.Log)
	if err != nil {
		return err
	}
	l, err := o.layout(e)
	if err != nil {
		return err
	}
	done, err := e.Initialised(l)
	if err != nil {
		return fmt.Errorf("look for a data directory: %w", err)
	}
	if done {
		fmt.Fprintf(out, "%s: the data directory is there\n", name)
		return nil
	}
	fmt.Fprintf(out, "%s: making the data directory in %s\n", name, o.Data)
	began := clock.System{}.Now()
	if err := e.Initialise(ctx, l); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	fmt.Fprintf(out, "%s: done in %s\n", name, clock.System{}.Now().Sub(began))
	return nil
}
