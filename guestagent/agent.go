package guestagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/engine"
	"github.com/trove-dbaas/trove/guestagent/ballast"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/atomicfile"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/telemetry"
)

// Config is what an agent is made of. All fields but Renew, Upgrade and Timings are needed.
type Config struct {
	Instance string // must pass trove.ValidID
	BootID   string // changes with each start of the machine
	Version  string // of the agent

	Engine engine.Engine
	Layout engine.Layout // its State and Runtime must exist

	// Connect joins the bus. It is called again until it succeeds; the connection comes back by its own means. Connected is to be called after each
	// connect, the first among them, and may be called before Connect has returned.
	Connect func(ctx context.Context, connected func()) (bus.Conn, error)
	// Renew stores a new credential; what it returns uses it, which cuts the connection for a moment and is called after the answer went out.
	Renew func(ctx context.Context, c bus.Credential) (use func(), err error)

	// Upgrade is what an agent needs to be replaced by another release of itself; nil: it cannot be, and does not offer the command.
	Upgrade *Upgrade

	// Grow lets the file system of the data volume fill a volume that has grown, and returns the bytes of the volume that it fills; nil: the host does that.
	// It may be called often.
	Grow func() (int64, error)

	// Objects reads and writes objects with the grants of commands; nil: this guest cannot.
	Objects Objects

	Timings Timings
	Clock   clock.Clock
	Log     *slog.Logger
}

// Objects is the object gateway as commands use it; objects.Client is it.
type Objects interface {
	// PutLines stores a text under a name that begins with the grant's prefix, and notes how many lines it has. It may be repeated.
	PutLines(ctx context.Context, grant guestapi.Grant, name string, body io.Reader, lines int64) (guestapi.StoredObject, error)
	// Get opens an object. It is whole when the reader has said io.EOF.
	Get(ctx context.Context, grant guestapi.Grant, name string) (io.ReadCloser, error)
}

// Agent is one guest's agent.
type Agent struct {
	cfg        Config
	times      Timings
	log        *slog.Logger
	supervisor *Supervisor
	journal    *Journal
	ballast    *ballast.Ballast

	connected chan struct{} // after each connect
	queued    chan struct{} // a long command waits
	ends      chan struct{} // a command has ended
	progress  chan guestapi.OperationStatus

	replaced chan struct{} // closed when this process shall make room for another release
	greeted  atomic.Bool   // hello was said

	slots   chan struct{} // short commands that run
	waiting chan struct{} // short commands that run or wait

	configuring  sync.Mutex // held by the command that changes parameters
	certificates sync.Mutex // held by the commands about the database's certificate
	samples      sampler

	recording sync.Mutex // held while a long command gets into the journal and the queue; taken before mu

	mu    sync.Mutex
	queue []guestapi.Request

	// The reporter's own.
	began  int64 // names this start of the agent
	seq    int64 // of heartbeats
	sends  map[string]*resend
	cutOff bool // the last report was not sent
}

const (
	shortAtOnce  = 8  // short commands that run at the same time
	shortWaiting = 64 // with those that wait
	maxQueued    = 32 // long commands that wait
	// shortTimeout is below the 30 s after which the bus no longer takes the answer.
	shortTimeout = 25 * time.Second
	// connectPause is between attempts to join the bus for the first time.
	connectPause = 2 * time.Second
)

// New opens the journal and reads what the engine shall do. It has no effect on the engine before Run.
func New(cfg Config) (*Agent, error) {
	if !trove.ValidID(cfg.Instance) {
		return nil, trove.Errorf(trove.KindBadRequest, "%q is no instance id.", cfg.Instance)
	}
	log := cfg.Log.With("instance", cfg.Instance)
	supervisor, err := NewSupervisor(cfg.Engine, cfg.Layout, cfg.Timings, cfg.Clock, log)
	if err != nil {
		return nil, err
	}
	reserve, err := ballast.Open(cfg.Layout.Data, filepath.Join(cfg.Layout.State, "ballast"), log)
	if err != nil {
		return nil, err
	}
	atomicfile.SetReserve(reserve.Release)
	journal, err := OpenJournal(filepath.Join(cfg.Layout.State, "journal"), filepath.Join(cfg.Layout.Runtime, "commands"), log)
	if err != nil {
		return nil, err
	}
	began := cfg.Clock.Now().UnixMicro()
	return &Agent{
		cfg: cfg, times: cfg.Timings.withDefaults(), log: log, supervisor: supervisor, journal: journal, ballast: reserve,
		connected: make(chan struct{}, 1), queued: make(chan struct{}, 1), ends: make(chan struct{}, 1), progress: make(chan guestapi.OperationStatus, 8),
		replaced: make(chan struct{}),
		slots:    make(chan struct{}, shortAtOnce), waiting: make(chan struct{}, shortWaiting),
		began: began, seq: began, sends: map[string]*resend{}, queue: journal.Running(),
	}, nil
}

// Run supervises the engine, joins the bus and serves until ctx ends, and then leaves the engine running. The engine does not wait for the bus. An
// error means that the agent cannot work here at all.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var parts sync.WaitGroup
	defer parts.Wait()
	var failed error
	parts.Go(func() {
		if err := a.supervisor.Run(ctx); err != nil {
			failed = err
			cancel(err)
		}
	})
	parts.Go(func() { a.runQueue(ctx) })
	parts.Go(func() { a.live(ctx) })
	parts.Go(func() { a.watchDrift(ctx) })
	parts.Go(func() { a.watchLogs(ctx) })
	parts.Go(func() {
		select {
		case <-a.replaced:
			cancel(nil)
		case <-ctx.Done():
		}
	})
	err := a.serve(ctx)
	cancel(nil)
	parts.Wait()
	return errors.Join(failed, err)
}

func (a *Agent) serve(ctx context.Context) error {
	conn := a.connect(ctx)
	if conn == nil {
		return nil
	}
	r := &responder{agent: a}
	// Commands end with the agent, not only with the connection.
	handle := func(_ context.Context, m bus.Message) { r.handle(ctx, m) }
	stop, err := conn.Subscribe(ctx, guestapi.CommandSubject(a.cfg.Instance), "", handle)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for commands: %w", err), conn.Close())
	}
	a.report(ctx, conn)
	stop()
	r.running.Wait()
	return conn.Close()
}

// connect tries until it succeeds; nil when ctx ended first.
func (a *Agent) connect(ctx context.Context) bus.Conn {
	for {
		conn, err := a.cfg.Connect(ctx, func() { wake(a.connected) })
		if err == nil {
			return conn
		}
		if ctx.Err() != nil {
			return nil
		}
		a.log.WarnContext(ctx, "bus could not be joined", "err", err)
		_ = clock.Sleep(ctx, connectPause)
	}
}

// Service returns what is known of the engine.
func (a *Agent) Service() Service { return a.supervisor.Service() }

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// BootID names this start of the machine: the kernel's boot and the start of the first process that is seen from here, which differs per sandbox.
func BootID() (string, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the boot id: %w", err)
	}
	return bootID(string(boot))
}

// withRequest returns a context that carries a command's request id to the log.
func withRequest(ctx context.Context, r guestapi.Request) context.Context {
	if r.RequestID == "" {
		return ctx
	}
	return telemetry.WithRequestID(ctx, r.RequestID)
}
