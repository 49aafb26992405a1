package app

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/trove-dbaas/trove/bus"
	"github.com/trove-dbaas/trove/bus/natsbus/server"
	"github.com/trove-dbaas/trove/guestapi"
)

// startBroker starts the broker, which lives in the taskmanager's process.
func (c *controllers) startBroker(ctx context.Context) (err error) {
	host := c.address.String()
	at := func(port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
	cfg := server.Config{
		Keys: c.keys, Listen: at(c.cfg.Bus.Port), EnrolListen: at(c.cfg.Bus.EnrolPort),
		RouteListen: c.cfg.Bus.RouteListen, RouteURL: c.cfg.Bus.RouteURL, ID: brokerName(c.cfg),
		Host: hostName(), ClockAhead: c.clocks.Ahead, Objects: []string{"https://" + at(c.cfg.Objects.Port)},
		CredentialLife: c.cfg.Bus.CredentialLife, CertificateLife: c.cfg.Bus.CertificateLife, CALife: c.cfg.Bus.CALife,
		Repository: brokerStore{c.store}, Guests: enrolments{c.store, c.clock}, Alarm: c.alarmed, Log: c.log, Clock: c.clock, Metrics: c.metrics,
	}
	if c.cfg.Bus.Address != "" && c.cfg.Bus.Address != host {
		cfg.ControlListen = net.JoinHostPort(c.cfg.Bus.Address, strconv.Itoa(c.cfg.Bus.Port))
	}
	for _, port := range c.cfg.Bus.FormerPorts {
		cfg.FormerListen = append(cfg.FormerListen, at(port))
	}
	for _, port := range c.cfg.Bus.FormerEnrolPorts {
		cfg.FormerEnrolListen = append(cfg.FormerEnrolListen, at(port))
	}
	c.bus, err = server.Start(ctx, cfg)
	if err == nil {
		c.closing(c.bus.Close)
	}
	return err
}

// connect opens a connection to the bus: inside the process where the broker is in it, else as soon as it can be reached.
func (c *controllers) connect(ctx context.Context, name string) (bus.Conn, error) {
	if c.bus != nil {
		return c.bus.Conn(ctx, name)
	}
	conn, err := server.DialController(ctx, server.ControllerConfig{
		Keys: c.keys, Address: c.brokers.address, Name: name, Log: c.log, Clock: c.clock, Metrics: c.metrics,
		CALife: c.cfg.Bus.CALife,
	})
	if err != nil {
		return nil, err
	}
	c.closing(conn.Close)
	return conn, nil
}

// wake tells the taskmanager that an operation may be due: by a call where it is in this process, else over the bus. It looks every second by itself.
func (c *controllers) wake(ctx context.Context) {
	if c.taskmanager != nil {
		c.taskmanager.Wake()
		return
	}
	if err := c.requests.Publish(ctx, guestapi.WakeSubject, nil); err != nil {
		c.log.DebugContext(ctx, "taskmanager was not woken", "err", err)
	}
}

// hearWakes wakes the taskmanager when controllers of other processes say so. Every taskmanager hears it: the one that has room takes the work.
func (c *controllers) hearWakes(ctx context.Context) error {
	_, err := c.requests.Subscribe(ctx, guestapi.WakeSubject, "", func(ctx context.Context, _ bus.Message) {
		c.log.DebugContext(ctx, "woken over the bus")
		c.taskmanager.Wake()
	})
	if err != nil {
		return fmt.Errorf("listen for new operations: %w", err)
	}
	return nil
}
