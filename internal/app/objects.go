package app

import (
	"context"
	"net"
	"strconv"
	"time"

	"github.com/trove-dbaas/trove/backupstore/file"
	"github.com/trove-dbaas/trove/gateway"
	"github.com/trove-dbaas/trove/gateway/grant"
	"github.com/trove-dbaas/trove/guestapi"
)

// openObjects opens the object store and the keys of grants, which the API and the taskmanager share.
func (c *controllers) openObjects(ctx context.Context) (err error) {
	if c.objects, err = file.Open(file.Config{
		Dir: c.state.Path("objects"), Clock: c.clock, MinFree: int64(c.cfg.Objects.MinFree * (1 << 30)),
	}); err != nil {
		return err
	}
	c.closing(c.objects.Close)
	if c.grantKeys, err = grant.Open(ctx, c.keys, c.clock); err != nil {
		return err
	}
	c.grants = grant.NewIssuer(c.grantKeys, c.store, c.brokers.gateways, c.clock)
	return nil
}

// startGateway starts the object gateway beside the broker, whose certificate it shows.
func (c *controllers) startGateway(ctx context.Context) error {
	if _, err := c.grantKeys.Renew(ctx, false); err != nil {
		return err
	}
	g, err := gateway.Start(ctx, gateway.Config{
		Listen: net.JoinHostPort(c.address.String(), strconv.Itoa(c.cfg.Objects.Port)), TLS: c.bus.TLSConfig(), Grants: c.grantKeys,
		Store: c.objects, Own: file.OpenDirectories(map[string]string{guestapi.AgentContainer: c.state.Agents()}), State: c.store,
		Limits: gateway.Limits{BytesPerSecond: c.cfg.Objects.GuestRate << 20},
		Log:    c.log, Clock: c.clock, Metrics: c.metrics,
	})
	if err == nil {
		c.closing(g.Close)
	}
	return err
}

// renewGrantKeys looks now and then whether the key that signs grants is old.
func (c *controllers) renewGrantKeys(ctx context.Context) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		made, err := c.grantKeys.Renew(ctx, false)
		if err != nil {
			c.log.WarnContext(ctx, "key of grants was not renewed", "err", err)
		} else if made {
			c.log.InfoContext(ctx, "key of grants renewed")
		}
	}
}
