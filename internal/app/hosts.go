package app

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/bus/natsbus/server"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/clockwatch"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/store/sqlstore"
)

// hostName returns the name of this machine, for people and as the name of its broker.
func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}

// brokerName is what the broker of this host is called among those of the deployment.
func brokerName(cfg config.Config) string {
	if cfg.Bus.Name == "" && cfg.Bus.RouteListen != "" {
		return hostName()
	}
	return cmp.Or(cfg.Bus.Name, "trove")
}

// brokers is where the brokers and object gateways of the deployment are, from the store. It may be used from several goroutines.
type brokers struct {
	controllers func(context.Context) ([]sqlstore.Controller, error)
	name, host  string // of this host's broker, and of this host
	clock       clock.Clock

	mu    sync.Mutex
	known []sqlstore.Controller // as they were read last: the store may be away while the bus is not
	tried int
}

const brokersTimeout = 5 * time.Second

// rows returns the brokers, this host's first, those that were not heard of lately last.
func (b *brokers) rows() ([]sqlstore.Controller, error) {
	ctx, cancel := context.WithTimeout(context.Background(), brokersTimeout)
	defer cancel()
	found, err := b.controllers(ctx)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		b.known = found
	}
	if len(b.known) == 0 {
		return nil, trove.Wrap(trove.KindUnavailable, err, "No taskmanager of this deployment has been started yet: it has no bus.")
	}
	rows := slices.Clone(b.known)
	now := b.clock.Now()
	rank := func(c sqlstore.Controller) int {
		switch {
		case !server.ControllerRow(c).Present(now):
			return 2
		case c.ID == b.name:
			return 0
		}
		return 1
	}
	slices.SortStableFunc(rows, func(x, y sqlstore.Controller) int { return rank(x) - rank(y) })
	return rows, nil
}

// address returns where a broker is: with each call the next one of those that are there, so that one which does not answer is left.
func (b *brokers) address() (string, error) {
	rows, err := b.rows()
	if err != nil {
		return "", err
	}
	now := b.clock.Now()
	if there := slices.IndexFunc(rows, func(c sqlstore.Controller) bool { return !server.ControllerRow(c).Present(now) }); there > 0 {
		rows = rows[:there]
	}
	var all []string
	for _, c := range rows {
		if address := c.Control; c.Host == b.host && len(c.Clients) > 0 {
			all = append(all, c.Clients[0])
		} else if address != "" {
			all = append(all, address)
		}
	}
	if len(all) == 0 {
		return "", trove.Errorf(trove.KindUnavailable, "No taskmanager of this deployment has said where its bus is.")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tried++
	return all[(b.tried-1)%len(all)], nil
}

// gateways returns the URLs of the object gateways that guests are told.
func (b *brokers) gateways() ([]string, error) {
	rows, err := b.rows()
	if err != nil {
		return nil, err
	}
	var urls []string
	for _, c := range rows {
		if len(urls) > 0 && b.clock.Now().Sub(c.SeenAt) > server.ControllerGone {
			continue
		}
		for _, u := range c.Objects {
			if !slices.Contains(urls, u) {
				urls = append(urls, u)
			}
		}
	}
	if len(urls) == 0 {
		return nil, trove.Errorf(trove.KindUnavailable, "No taskmanager of this deployment has said where its object gateway is.")
	}
	return urls, nil
}

// openClocks compares this host's clock with the database's. SQLite has no other clock than this host's.
func (c *controllers) openClocks(ctx context.Context) (err error) {
	if c.clocks, err = clockwatch.New(clockwatch.Config{Database: c.store.Now, Clock: c.clock, Log: c.log, Metrics: c.metrics}); err != nil || c.cfg.Store.URL == "" {
		return err
	}
	return c.clocks.Look(ctx)
}

// openOuter opens a cloud that is not this machine's.
func (c *controllers) openOuter(ctx context.Context) error {
	p, closes, err := c.outer(ctx)
	if err != nil {
		return fmt.Errorf("open the cloud: %w", err)
	}
	c.closing(closes)
	c.cloud, c.catalog = p, p
	if c.runs.Taskmanager && c.cfg.Bus.Address == "" {
		return trove.Errorf(trove.KindBadRequest, "Say with bus.address where guests reach this host: the cloud's machines are elsewhere.")
	}
	if c.cfg.Bus.Address != "" {
		c.address, err = netip.ParseAddr(c.cfg.Bus.Address)
	}
	return err
}

// machineID names this machine and the deployment's directory on it, the same after a restart.
func machineID(state string) (string, error) {
	id, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		id = []byte(hostName())
	}
	hash, err := deploymentHash(state)
	return strings.TrimSpace(string(id)) + "/" + hash, err
}

// ownCloud refuses to work on another machine than the one that has the deployment's databases: it would take all of them for lost. Where the store is a file
// the machine that has it is the one.
func (c *controllers) ownCloud(ctx context.Context) error {
	if c.cfg.Store.URL == "" {
		return nil
	}
	id, err := machineID(c.cfg.State)
	if err != nil {
		return err
	}
	other, err := c.store.ClaimCloud(ctx, id, hostName()+":"+c.cfg.State, false)
	if err != nil {
		return err
	}
	return elsewhere("taskmanager", other)
}

// elsewhere says that a component of the local cloud belongs onto another machine; "": onto this one.
func elsewhere(component, other string) error {
	if other == "" {
		return nil
	}
	return trove.Errorf(trove.KindConflict,
		"The databases of this deployment are on another machine, %s, with the images and networks of the local cloud: trove-%s runs there. Here `trove serve conductor` can run. "+
			"If the disk with the databases was moved to this machine, say so with `trove manage adopt-cloud`.", other, component)
}

// cloudHere refuses an api on another machine than the one that has the local cloud: it reads its images and networks.
func (c *controllers) cloudHere(ctx context.Context) error {
	if c.cfg.Store.URL == "" {
		return nil
	}
	id, err := machineID(c.cfg.State)
	if err != nil {
		return err
	}
	machine, name, err := c.store.CloudMachine(ctx)
	if err != nil || machine == "" || machine == id {
		return err
	}
	return elsewhere("api", name)
}

// AdoptCloud says that the databases of the deployment are on this machine now.
func AdoptCloud(ctx context.Context, cfg config.Config) error {
	if cfg.Store.URL == "" {
		return trove.Errorf(trove.KindBadRequest, "The store is a file of this machine: nothing has to be said.")
	}
	id, err := machineID(cfg.State)
	if err != nil {
		return err
	}
	st, err := openStore(ctx, cfg)
	if err != nil {
		return err
	}
	_, err = st.ClaimCloud(ctx, id, hostName()+":"+cfg.State, true)
	if cerr := st.Close(); err == nil {
		err = cerr
	}
	return err
}

// ControllerStatus is a taskmanager with its broker, for people.
type ControllerStatus struct{ Name, Host, Bus, Seen, Clock, State string }

// Controllers returns the taskmanagers that a deployment has or had.
func Controllers(ctx context.Context, cfg config.Config) ([]ControllerStatus, error) {
	st, err := openStore(ctx, cfg)
	if err != nil {
		return nil, err
	}
	rows, err := st.Controllers(ctx)
	if cerr := st.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	now := clock.System{}.Now()
	var all []ControllerStatus
	for _, r := range rows {
		s := ControllerStatus{
			Name: r.ID, Host: cmp.Or(r.Host, "-"), Bus: strings.Join(r.Clients, ","), Seen: now.Sub(r.SeenAt).Round(time.Second).String() + " ago",
			Clock: fmt.Sprintf("%+.1fs", r.ClockAhead.Seconds()), State: "up",
		}
		if sentence := clockwatch.Sentence(r.ClockAhead); sentence != "" {
			s.State = sentence
		}
		if !server.ControllerRow(r).Present(now) {
			s.State = "not heard of lately"
		}
		all = append(all, s)
	}
	return all, nil
}

// checkClocks is the check before an upgrade that says whether the controllers' clocks go right.
func (a *Admin) checkClocks(ctx context.Context) (CheckResult, error) {
	r := CheckResult{Check: "Clocks of controllers", Detail: "They go as the database's."}
	rows, err := a.store.Controllers(ctx)
	if err != nil {
		return r, fmt.Errorf("read the controllers: %w", err)
	}
	var all []string
	for _, c := range rows {
		if sentence := clockwatch.Sentence(c.ClockAhead); sentence != "" && server.ControllerRow(c).Present(clock.System{}.Now()) {
			all = append(all, c.ID+": "+sentence)
		}
	}
	if len(all) > 0 {
		r.Level, r.Detail = CheckWarning, strings.Join(all, " ")
	}
	return r, nil
}
