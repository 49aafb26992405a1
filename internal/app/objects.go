package app

import (
	"context"
	"net"
	"strconv"
	"time"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/backupstore"
	"github.com/trove-dbaas/trove/backupstore/file"
	"github.com/trove-dbaas/trove/backupstore/swift"
	"github.com/trove-dbaas/trove/gateway"
	"github.com/trove-dbaas/trove/gateway/grant"
	"github.com/trove-dbaas/trove/guestapi"
	"github.com/trove-dbaas/trove/internal/config"
)

// openObjects opens the object store and the keys of grants, which the API and the taskmanager share.
func (c *controllers) openObjects(ctx context.Context) (err error) {
	if c.objects, err = c.openObjectStore(ctx); err != nil {
		return err
	}
	if c.grantKeys, err = grant.Open(ctx, c.keys, c.clock); err != nil {
		return err
	}
	c.grants = grant.NewIssuer(c.grantKeys, c.store, c.brokers.gateways, c.clock)
	return nil
}

// openObjectStore opens what the configuration names. That Swift is away is no reason not to start: what needs it says so.
func (c *controllers) openObjectStore(ctx context.Context) (backupstore.Store, error) {
	if c.cfg.Objects.Store != config.ObjectsSwift {
		s, err := file.Open(file.Config{Dir: c.state.Path("objects"), Clock: c.clock, MinFree: int64(c.cfg.Objects.MinFree * (1 << 30))})
		if err != nil {
			return nil, err
		}
		c.closing(s.Close)
		return s, nil
	}
	session, err := c.openStackSession(ctx)
	if err != nil {
		return nil, err
	}
	s, err := swift.New(swift.Config{
		Session: session, Projects: c.cfg.Objects.SwiftAccounts == config.AccountsProject, Prefix: c.cfg.Objects.SwiftPrefix,
		Locks: &swift.Shared{Claims: c.store, Clock: c.clock}, Log: c.log,
	})
	if err != nil {
		return nil, err
	}
	if err := s.Check(ctx); err != nil {
		if trove.KindOf(err) != trove.KindUnavailable {
			return nil, err
		}
		c.log.WarnContext(ctx, "object store does not answer", "err", err)
	}
	return s, c.store.PruneClaims(ctx, c.clock.Now())
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
