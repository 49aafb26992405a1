// Package guesttest is a fleet of guests in memory, for tests of what gives them commands: they enrol, say hello, keep a journal, report
// progress and ends, and send an end again until it is acknowledged, as the guest agent does. There is no engine inside.
//
// A guest's journal and what its engine holds are on its volume: they survive restarts of the machine. A Fleet may be used from several
// goroutines.
package guesttest

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/clock"
)

// Options are how guests behave. The zero value is quick and never enrols.
type Options struct {
	// Connect returns a new connection to the bus.
	Connect func(name string) bus.Conn
	// Enrol is called with the token of the boot data and the key of a guest that has no identity yet; nil: everybody is let in.
	Enrol func(ctx context.Context, instance, token, key string) error
	// Heartbeat and Resend are how often guests report, and repeat an end that is not acknowledged; 10 s and 2 s if 0.
	Heartbeat, Resend time.Duration
	// Work is how long a command takes; 0: no time.
	Work time.Duration
}

// Volume is what a guest keeps on its volume.
type Volume struct {
	Key        string // "" before it enrolled
	Prepared   *guestapi.PrepareArgs
	Settings   guestapi.ConfigureArgs
	SizeGiB    int
	Running    bool           // the engine
	Stopped    bool           // on purpose: it stays down when the machine starts
	Data       string         // the version of the image that the data was used with last
	Kept       string         // the version of the data that is kept aside, "" for none
	Finished   int            // how often an upgrade of the data was finished
	Revision   int64          // of the newest configuration that it heard of
	Credential bus.Credential // the last that it was handed
	Agent      string         // version of the agent
	Runs       map[string]int // how often each command was carried out, by operation id
}

// FirstAgent is the version of the agent in a new guest.
const FirstAgent = "1.2.0"

// Fleet is all guests of a deployment.
type Fleet struct {
	opt Options

	mu      sync.Mutex
	guests  map[string]*guest
	volumes map[string]*Volume
	journal map[string]map[string]guestapi.OperationStatus // by instance and operation id
	given   map[string]guestapi.Command                    // by operation id
	acked   map[string]bool
	fail    map[guestapi.Command]string
	slow    map[guestapi.Command]time.Duration
	deaf    map[string]bool
	found   []guestapi.Finding

	certificates map[string]string // by instance
	boots        int
}

// New returns a fleet without guests.
func New(opt Options) *Fleet {
	if opt.Heartbeat == 0 {
		opt.Heartbeat = 10 * time.Second
	}
	if opt.Resend == 0 {
		opt.Resend = 2 * time.Second
	}
	return &Fleet{
		opt: opt, guests: map[string]*guest{}, volumes: map[string]*Volume{}, given: map[string]guestapi.Command{}, acked: map[string]bool{}, fail: map[guestapi.Command]string{}, slow: map[guestapi.Command]time.Duration{},
		journal: map[string]map[string]guestapi.OperationStatus{}, deaf: map[string]bool{}, certificates: map[string]string{},
	}
}

// Fail makes a command fail in all guests with the message; "" ends that.
func (f *Fleet) Fail(c guestapi.Command, message string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail[c] = message
}

// Slow makes a command take so much longer in all guests.
func (f *Fleet) Slow(c guestapi.Command, d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.slow[c] = d
}

// Find makes checks before upgrades find something.
func (f *Fleet) Find(found ...guestapi.Finding) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.found = found
}

// Mute makes an instance's guest not come up at its next boots.
func (f *Fleet) Mute(instance string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deaf[instance] = true
}

// Volume returns a copy of what the guest of an instance keeps, false if it never booted.
func (f *Fleet) Volume(instance string) (Volume, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v, ok := f.volumes[instance]
	if !ok {
		return Volume{}, false
	}
	c := *v
	c.Runs = maps.Clone(v.Runs)
	return c, true
}

// Certificate returns the certificate that an instance was prepared with, "" for none.
func (f *Fleet) Certificate(instance string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.certificates[instance]
}

// Alive returns how many guests run.
func (f *Fleet) Alive() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.guests)
}

// Boot starts the guest of a machine; it is the hook of the fake cloud.
func (f *Fleet) Boot(instance string, bootData []byte) {
	f.Halt(instance)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.deaf[instance] {
		return
	}
	f.boots++
	v := f.volumes[instance]
	if v == nil {
		v = &Volume{Agent: FirstAgent, Data: FirstData, Runs: map[string]int{}}
		f.volumes[instance] = v
		f.journal[instance] = map[string]guestapi.OperationStatus{}
	}
	v.Running = v.Prepared != nil && !v.Stopped
	ctx, cancel := context.WithCancel(context.Background())
	g := &guest{fleet: f, instance: instance, bootID: trove.NewID(), cancel: cancel, still: make(chan struct{}), engineStart: int64(f.boots)}
	f.guests[instance] = g
	go g.run(ctx, bootData)
}

// Halt ends the guest of a machine; it is the hook of the fake cloud.
func (f *Fleet) Halt(instance string) {
	f.mu.Lock()
	g := f.guests[instance]
	delete(f.guests, instance)
	f.mu.Unlock()
	if g != nil {
		g.cancel()
		<-g.still
	}
}

// Close halts all guests.
func (f *Fleet) Close() {
	f.mu.Lock()
	ids := make([]string, 0, len(f.guests))
	for id := range f.guests {
		ids = append(ids, id)
	}
	f.mu.Unlock()
	for _, id := range ids {
		f.Halt(id)
	}
}

// guest is one guest between boot and halt.
type guest struct {
	fleet       *Fleet
	instance    string
	bootID      string
	engineStart int64
	conn        bus.Conn
	cancel      context.CancelFunc
	still       chan struct{}
	work        sync.WaitGroup
	last        chan struct{} // closed when the newest command is done; commands run one after another
	seq         int64
}

func (g *guest) run(ctx context.Context, bootData []byte) {
	defer close(g.still)
	if !g.enrol(ctx, bootData) {
		return
	}
	g.conn = g.fleet.opt.Connect("guest-" + g.instance)
	defer func() { _ = g.conn.Close() }()
	stop, err := guestapi.Serve(ctx, g.conn, g.instance, slog.New(slog.DiscardHandler), func(ctx context.Context, r guestapi.Request) (any, error) {
		return g.command(ctx, r)
	})
	if err != nil {
		return
	}
	defer g.work.Wait()
	defer stop()
	g.report(ctx, guestapi.ReportHello, g.hello())
	for ctx.Err() == nil {
		g.beat(ctx)
		if clock.Sleep(ctx, g.fleet.opt.Heartbeat) != nil {
			return
		}
	}
}

// enrol joins the guest, once in the life of its volume.
func (g *guest) enrol(ctx context.Context, bootData []byte) bool {
	f := g.fleet
	f.mu.Lock()
	key := f.volumes[g.instance].Key
	f.mu.Unlock()
	if key != "" || f.opt.Enrol == nil {
		return true
	}
	var boot bus.BootData
	if err := json.Unmarshal(bootData, &boot); err != nil || boot.Instance != g.instance {
		return false
	}
	key = "U" + g.bootID
	if err := f.opt.Enrol(ctx, g.instance, boot.Token, key); err != nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.volumes[g.instance].Key = key
	return true
}

func (g *guest) hello() guestapi.Hello {
	g.fleet.mu.Lock()
	defer g.fleet.mu.Unlock()
	return guestapi.Hello{
		BootID: g.bootID, AgentVersion: g.fleet.volumes[g.instance].Agent, Protocol: guestapi.Version, Engine: "fake",
		Commands: []guestapi.Command{
			guestapi.CmdPrepare, guestapi.CmdUpgradeAgent, guestapi.CmdApplyConfiguration, guestapi.CmdCheckUpgrade, guestapi.CmdKeepData, guestapi.CmdUpgrade,
			guestapi.CmdRestoreData, guestapi.CmdDropKept, guestapi.CmdFinishUpgrade, guestapi.CmdRequestCertificate,
		}, Prepared: g.fleet.volumes[g.instance].Prepared != nil,
	}
}

func (g *guest) beat(ctx context.Context) {
	f := g.fleet
	f.mu.Lock()
	v := f.volumes[g.instance]
	g.seq++
	h := guestapi.Heartbeat{
		BootID: g.bootID, Seq: g.seq, Service: trove.ServiceNew, AgentVersion: v.Agent, VolumeUsed: 1 << 20, VolumeTotal: int64(v.SizeGiB) << 30,
	}
	switch {
	case v.Prepared != nil && v.Running:
		h.Service, h.EngineStart = trove.ServiceHealthy, g.engineStart
	case v.Prepared != nil:
		h.Service = trove.ServiceShutdown
	}
	f.mu.Unlock()
	g.report(ctx, guestapi.ReportHeartbeat, h)
}

func (g *guest) report(ctx context.Context, k guestapi.ReportKind, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		return
	}
	_ = g.conn.Publish(ctx, guestapi.ReportSubject(g.instance, k), data) // what is lost is said again
}
