package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	trove "github.com/trove-dbaas/trove"
	"github.com/trove-dbaas/trove/cloud/local"
	"github.com/trove-dbaas/trove/cloud/local/hostnet"
	"github.com/trove-dbaas/trove/internal/atomicfile"
	"github.com/trove-dbaas/trove/internal/clock"
	"github.com/trove-dbaas/trove/internal/config"
	"github.com/trove-dbaas/trove/internal/recovery"
	"github.com/trove-dbaas/trove/store"
)

// network is the host's network in the words of the local cloud.
type network struct{ *hostnet.Net }

var _ local.Net = network{}

func (n network) EnsureInstance(ctx context.Context, s local.NetSpec) (local.NetInstance, error) {
	p, err := n.Net.EnsureInstance(ctx, hostnet.Spec{Instance: s.Instance, Address: s.Address, Access: s.Access, TCPPorts: s.TCPPorts, Public: s.Public})
	return attachment(p), err
}

func (n network) FindInstance(ctx context.Context, instance string) (local.NetInstance, error) {
	p, err := n.Net.FindInstance(ctx, instance)
	return attachment(p), err
}

func (n network) Instances(ctx context.Context) ([]local.NetInstance, error) {
	found, err := n.Net.Instances(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]local.NetInstance, 0, len(found))
	for _, p := range found {
		all = append(all, attachment(p))
	}
	return all, nil
}

func attachment(p hostnet.Ports) local.NetInstance {
	n := local.NetInstance{Instance: p.Instance, Netns: p.Netns, Address: p.Address}
	for _, e := range p.Public {
		n.Public = append(n.Public, local.NetPublic{Address: e.Address, Port: e.Port, Engine: e.Engine})
	}
	return n
}

func (c *controllers) openCloud(ctx context.Context) (err error) {
	if c.outer != nil {
		return c.openOuter(ctx)
	}
	if err := c.ownCloud(ctx); err != nil {
		return err
	}
	if err := registerImages(ctx, c.store, ImagesDir(c.cfg)); err != nil {
		return err
	}
	net, provider, err := openLocal(ctx, c.cfg, c.log, c.metrics, func(ctx context.Context, lc *local.Config) error {
		lc.Mended = c.noteMended
		return c.probeOnce(ctx, *lc)
	})
	if err != nil {
		return err
	}
	c.closing(net.Close)
	c.closing(provider.Close)
	c.net, c.cloud, c.catalog, c.address = net, provider, provider, net.HostAddress()
	return nil
}

// mendedAgain is how long what is mended again and again counts as one line of the timeline.
const mendedAgain = time.Hour

// noteMended writes into an instance's timeline what the cloud has put right. The log has it too, so a store that does not take it loses nothing.
func (c *controllers) noteMended(ctx context.Context, instance, what, sentence string) {
	kind := trove.EventLimitsMended
	if what == "space" {
		kind = trove.EventSpaceMended
	}
	err := c.store.InTx(ctx, func(ctx context.Context, tx store.Tx) error {
		return tx.CountInstanceEvent(ctx, trove.InstanceEvent{InstanceID: instance, At: c.clock.Now(), Kind: kind, Sentence: sentence}, mendedAgain)
	})
	if err != nil {
		c.log.WarnContext(ctx, "event was not written", "instance", instance, "err", err)
	}
}

// openCatalog opens what trove-api needs of the cloud where the taskmanager runs in another process.
func (c *controllers) openCatalog(ctx context.Context) (err error) {
	if c.outer != nil {
		return c.openOuter(ctx)
	}
	if err := c.cloudHere(ctx); err != nil {
		return err
	}
	stop, warn, err := marks(c.cfg.Local)
	if err != nil {
		return err
	}
	c.catalog, err = local.OpenCatalog(local.Config{
		State: c.cfg.State, Dir: c.cfg.Local.Dir, Images: ImagesDir(c.cfg), Flavors: c.cfg.Local.TroveFlavors(), Public: c.cfg.Local.Public(),
		PoolGiB: c.cfg.Local.PoolGiB, Overcommit: c.cfg.Local.Overcommit, StopMark: stop, WarnMark: warn,
	}, func() (netip.Prefix, error) {
		known, err := hostnet.ReadKnown(c.cfg.CloudDir())
		return known.TenantSubnet, err
	})
	return err
}

// openLocal opens the local cloud of a state directory; before, if not nil, is called with its configuration first.
func openLocal(ctx context.Context, cfg config.Config, log *slog.Logger, metrics prometheus.Registerer,
	before func(context.Context, *local.Config) error,
) (*hostnet.Net, *local.Provider, error) {
	public, err := publicConfig(cfg.Local)
	if err != nil {
		return nil, nil, err
	}
	n, err := hostnet.Open(ctx, hostnet.Config{
		State: cfg.State, Dir: cfg.Local.Dir, KeepUnknown: recovery.Held(cfg.State), ManagementCIDR: cfg.Local.ManagementCIDR, TenantCIDR: cfg.Local.TenantCIDR,
		ControllerPorts: slices.Concat([]int{cfg.Bus.Port, cfg.Bus.EnrolPort}, cfg.Bus.FormerPorts, cfg.Bus.FormerEnrolPorts),
		BulkPorts:       []int{cfg.Objects.Port}, Public: public, Log: log, Metrics: metrics,
	})
	if err != nil {
		return nil, nil, err
	}
	stop, warn, err := marks(cfg.Local)
	if err != nil {
		return nil, nil, errors.Join(err, n.Close())
	}
	lc := local.Config{
		State: cfg.State, Dir: cfg.Local.Dir, Images: ImagesDir(cfg), Flavors: cfg.Local.TroveFlavors(), PoolGiB: cfg.Local.PoolGiB,
		Overcommit: cfg.Local.Overcommit, StopMark: stop, WarnMark: warn, Net: network{n}, Public: cfg.Local.Public(), Log: log,
		Clock: clock.System{}, Registry: metrics,
	}
	if before != nil {
		if err := before(ctx, &lc); err != nil {
			return nil, nil, errors.Join(err, n.Close())
		}
	}
	p, err := local.Open(ctx, lc)
	if err != nil {
		return nil, nil, errors.Join(err, n.Close())
	}
	return n, p, nil
}

// publicConfig is what the configuration says of clients from outside.
func publicConfig(l config.Local) (p hostnet.PublicConfig, err error) {
	if p.FirstPort, p.LastPort, err = l.PublicPortRange(); err != nil {
		return p, err
	}
	for _, text := range l.PublicAddresses {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return p, err
		}
		p.Addresses = append(p.Addresses, ip)
	}
	for _, text := range l.PublicCIDRs {
		pool, err := netip.ParsePrefix(text)
		if err != nil {
			return p, err
		}
		p.Pools = append(p.Pools, pool)
	}
	p.Interface = l.PublicInterface
	return p, nil
}

// marks reads the marks of the pool.
func marks(c config.Local) (stop, warn local.Mark, err error) {
	if stop, err = local.ParseMark(c.StopMark); err != nil {
		return stop, warn, fmt.Errorf("local.stop_mark: %w", err)
	}
	if warn, err = local.ParseMark(c.WarnMark); err != nil {
		return stop, warn, fmt.Errorf("local.warn_mark: %w", err)
	}
	return stop, warn, nil
}

// probeOnce tries out what the machine can do, once for each start of the machine: it takes longer than a start of the service should.
func (c *controllers) probeOnce(ctx context.Context, lc local.Config) error {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return local.Probe(ctx, lc)
	}
	marker := c.state.Path("probed")
	if seen, err := os.ReadFile(marker); err == nil && string(seen) == string(boot) {
		return nil
	}
	if err := local.Probe(ctx, lc); err != nil {
		return trove.Wrap(trove.KindUnavailable, err, "This machine cannot run instances: %s.", strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; "))
	}
	return atomicfile.Write(marker, boot, 0o600)
}

// Instances returns the living instances of a state directory, whether the service runs or not. One that was never started has none.
func Instances(ctx context.Context, cfg config.Config) ([]trove.Instance, error) {
	if cfg.Store.URL == "" && !exists(StateDir(cfg.State).storeFile()) {
		return nil, nil
	}
	st, err := openStore(ctx, cfg)
	if err != nil {
		return nil, err
	}
	all, err := st.Instances(ctx, store.InstanceFilter{})
	return all, errors.Join(err, st.Close())
}

// Destroy removes from this machine everything that the deployment made outside its state directory, and the data of its instances. The service
// must not run. It may be repeated.
func Destroy(ctx context.Context, cfg config.Config) error {
	if cfg.Cloud == config.CloudOpenStack {
		return trove.Errorf(trove.KindBadRequest, "The databases of this deployment are in an OpenStack: delete them through the API, and then the state directory.")
	}
	// The ranges are those that the deployment has: a destroy must not fail because a configured one has become impossible.
	cfg.Local.ManagementCIDR, cfg.Local.TenantCIDR = "", ""
	cfg.Local.PublicPorts, cfg.Local.PublicAddresses, cfg.Local.PublicCIDRs = "", nil, nil
	lock, err := StateDir(cfg.State).Lock(ctx, AllComponents)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	_, p, err := openLocal(ctx, cfg, slog.New(slog.DiscardHandler), nil, nil)
	if err != nil {
		return err
	}
	if err := p.Destroy(ctx); err != nil {
		return err
	}
	return removeImages(cfg)
}

// removeImages removes the images where they lie outside the state directory, and the directory itself if nothing else is in it.
func removeImages(cfg config.Config) error {
	if cfg.Local.Dir == "" {
		return nil
	}
	if err := os.RemoveAll(ImagesDir(cfg)); err != nil {
		return fmt.Errorf("remove the images: %w", err)
	}
	_ = os.Remove(cfg.Local.Dir) // it stays if it is a mount point, or somebody else's
	return nil
}
