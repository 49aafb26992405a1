// Package simulated puts guests into the servers of a Nova that has no hypervisor (the lab with LAB_VIRT=fake): it reads what each server was given to boot
// with through Nova's administrator's API, and runs a guest agent in this process that enrols with it, over an engine that stores nothing (engine/fake).
//
// A server that is started, rebooted or rebuilt boots its guest anew, with what its user data says now and with the volume that the instance had; one that is stopped
// or deleted has none. The process has to be where the lab's addresses are (tests/openstack/lab/lab in COMMAND).
package simulated

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/natsbus"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/machinedata"
	"github.com/trove-dbaas/trove/tests/inmemory"
	"github.com/trove-dbaas/trove/tests/openstack"
)

// Guests are the guests of the servers whose names begin with a prefix. Look and Close are called by one goroutine.
type Guests struct {
	cloud  *openstack.Cloud
	prefix string
	log    *slog.Logger
	dir    string
	hosts  *inmemory.Guests

	since   time.Time
	servers map[string]*server

	mu     sync.Mutex
	joined map[string]time.Time // when the guest of an instance was first on the bus
}

// server is one that has, or had, a guest.
type server struct {
	instance string
	updated  string
	userData string
	boots    int // as far as they were counted
	runs     bool
}

// overlap is what is looked at twice, for a clock of Nova's database that is not quite ours.
const overlap = 3 * time.Second

// New returns guests for servers that change from now on.
func New(cloud *openstack.Cloud, prefix string, log *slog.Logger) (*Guests, error) {
	dir, err := os.MkdirTemp("", "sim") // short: the paths of sockets are
	if err != nil {
		return nil, err
	}
	g := &Guests{
		cloud: cloud, prefix: prefix, log: log, dir: dir, hosts: inmemory.NewGuests(dir, nil, nil, nil), since: time.Now(),
		servers: map[string]*server{}, joined: map[string]time.Time{},
	}
	g.hosts.Join, g.hosts.Log = g.join, log
	return g, nil
}

// Run looks at the servers again and again until the context ends, and ends all guests. A Nova that does not answer is asked again.
func (g *Guests) Run(ctx context.Context, every time.Duration) {
	defer g.Close()
	for ctx.Err() == nil {
		if err := g.Look(ctx); err != nil && ctx.Err() == nil {
			g.log.WarnContext(ctx, "servers were not looked at", "err", err)
		}
		_ = clock.Sleep(ctx, every)
	}
}

// Look boots and ends guests as the servers' states say.
func (g *Guests) Look(ctx context.Context) error {
	began := time.Now()
	changed, err := g.cloud.Changes(ctx, g.prefix, g.since.Add(-overlap))
	if err != nil {
		return err
	}
	var errs []error
	for i := range changed {
		errs = append(errs, g.see(ctx, &changed[i]))
	}
	if err := errors.Join(errs...); err != nil {
		return err // and the same again: nothing is forgotten
	}
	g.since = began
	return nil
}

func (g *Guests) see(ctx context.Context, c *openstack.Change) error {
	s := g.servers[c.ID]
	if s != nil && s.updated == c.Updated && c.Status == "ACTIVE" == s.runs {
		return nil
	}
	settled := c.Task == nil || *c.Task == ""
	switch {
	case c.Status == "ACTIVE" && settled:
		return g.runs(ctx, c, s)
	case s != nil && s.runs && (c.Status != "ACTIVE" || *c.Task == "deleting" || *c.Task == "powering-off"):
		g.hosts.Halt(s.instance)
		s.runs = false
	}
	if s != nil && c.Status == "DELETED" {
		delete(g.servers, c.ID)
	}
	return nil
}

// runs sees to the guest of a server that is ACTIVE.
func (g *Guests) runs(ctx context.Context, c *openstack.Change, s *server) error {
	boots := 1 // of a server that was not there before
	if s != nil {
		var err error
		if boots, err = g.cloud.Boots(ctx, c.ID); err != nil {
			return err
		}
		if s.runs && boots == s.boots && s.userData == c.UserData {
			s.updated = c.Updated
			return nil
		}
	}
	data, err := base64.StdEncoding.DecodeString(c.UserData)
	if err != nil {
		return fmt.Errorf("server %s: %w", c.Name, err)
	}
	m, err := machinedata.Parse(data)
	if err != nil {
		g.log.InfoContext(ctx, "server has no guest of ours", "server", c.ID, "err", err)
		return nil
	}
	boot, err := json.Marshal(m.Boot)
	if err != nil {
		return err
	}
	g.servers[c.ID] = &server{instance: m.Boot.Instance, updated: c.Updated, userData: c.UserData, boots: boots, runs: true}
	g.hosts.Boot(m.Boot.Instance, boot)
	return nil
}

// join is what the agent of a real guest does.
func (g *Guests) join(ctx context.Context, boot bus.BootData, state string, connected func()) (bus.Conn, error) {
	tried := func(err error) {
		g.log.WarnContext(ctx, "guest was not enrolled yet", "instance", boot.Instance, "err", err)
	}
	if err := natsbus.Enrol(ctx, boot, state, tried); err != nil {
		return nil, err
	}
	return natsbus.DialGuest(ctx, state, natsbus.Options{Log: g.log, Clock: clock.System{}, OnConnect: func(context.Context) {
		g.mu.Lock()
		if g.joined[boot.Instance].IsZero() {
			g.joined[boot.Instance] = time.Now()
		}
		g.mu.Unlock()
		connected()
	}})
}

// Joined returns how many instances had a guest on the bus so far.
func (g *Guests) Joined() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.joined)
}

// Close ends all guests and removes their volumes.
func (g *Guests) Close() {
	g.hosts.HaltAll()
	if err := os.RemoveAll(g.dir); err != nil {
		g.log.Warn("volumes of guests were not removed", "err", err)
	}
}
