package hostnet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/trove-dbaas/trove/internal/clock"
)

const (
	watchEvery = 10 * time.Second // between looks if the kernel says nothing
	// watchPause is how long is waited after the kernel said that something changed: changes come in groups, mostly of our own making.
	watchPause = 100 * time.Millisecond
	watchGap   = time.Second // at least, between looks
)

// Watcher is who is told of what Watch finds. Each may be nil.
type Watcher struct {
	// Mended is called with what was not as it should be and is again.
	Mended func(ctx context.Context, d Drift)
	// Dropped is called with how many frames of an instance were dropped in the last seconds, and why: refused, connections or bytes.
	Dropped func(ctx context.Context, instance, reason string, frames uint64)
}

// metrics is what is counted.
type metrics struct {
	mended  *prometheus.CounterVec
	dropped *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) metrics {
	m := metrics{
		mended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "trove_hostnet_mended_total", Help: "Parts of the host's network that were found changed by somebody else and made again, by part.",
		}, []string{"what"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "trove_hostnet_dropped_frames_total",
			Help: "Frames of guests that were dropped where they enter the host: refused ones that no guest may send, and those above a limit.",
		}, []string{"reason"}),
	}
	for _, reason := range []string{droppedRefused, droppedConnections, droppedBytes} {
		m.dropped.WithLabelValues(reason)
	}
	if reg != nil {
		reg.MustRegister(m.mended, m.dropped)
	}
	return m
}

// Watch keeps everything as it should be until ctx ends: it looks when the kernel says that packet filters, interfaces or addresses changed, and every
// 10 s. One process of a deployment should do it.
func (n *Net) Watch(ctx context.Context, w Watcher) error {
	wake := make(chan struct{}, 1)
	for _, s := range []struct {
		family int
		groups []uint32
	}{
		{unix.NETLINK_NETFILTER, []uint32{unix.NFNLGRP_NFTABLES}},
		{unix.NETLINK_ROUTE, []uint32{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR}},
	} {
		stop, err := hear(s.family, s.groups, wake)
		if err != nil {
			return err
		}
		defer stop()
	}
	seen := map[counter]uint64{}
	for since := clock.Stopwatch(); ; {
		// A look that an event caused must not put off the thorough one.
		if err := pause(ctx, wake, max(0, watchEvery-since())); err != nil {
			return nil
		}
		thorough := since() >= watchEvery
		if thorough {
			since = clock.Stopwatch()
		}
		took := clock.Stopwatch()
		n.round(ctx, w, thorough, seen)
		// However many instances there are, looking after them takes a twentieth of the time at most.
		if clock.Sleep(ctx, max(watchGap, 20*took())) != nil {
			return nil
		}
	}
}

// round is one look. Every 10 s it is a thorough one.
func (n *Net) round(ctx context.Context, w Watcher, thorough bool, seen map[counter]uint64) {
	found, err := n.Check(ctx, thorough)
	for _, d := range found {
		n.metrics.mended.WithLabelValues(d.What).Inc()
		n.log.WarnContext(ctx, "the host's network was not as it should be and is mended", "what", d.What, "instance", d.Instance, "found", d.Sentence)
		if w.Mended != nil {
			w.Mended(ctx, d)
		}
	}
	if err != nil && ctx.Err() == nil {
		n.log.ErrorContext(ctx, "the host's network was not checked", "err", err)
	}
	if !thorough {
		return
	}
	if err := n.countDropped(ctx, w, seen); err != nil && ctx.Err() == nil {
		n.log.WarnContext(ctx, "dropped frames were not counted", "err", err)
	}
}

// pause waits until it is time to look: when something wakes it, or at most so long.
func pause(ctx context.Context, wake <-chan struct{}, most time.Duration) error {
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	case <-wake:
	}
	if err := clock.Sleep(ctx, watchPause); err != nil {
		return err
	}
	select {
	case <-wake: // of the same group
	default:
	}
	return nil
}

// hear puts something into wake whenever the kernel tells the groups something, until stop is called.
func hear(family int, groups []uint32, wake chan<- struct{}) (stop func(), err error) {
	c, err := netlink.Dial(family, nil)
	if err != nil {
		return nil, fmt.Errorf("watch the network: %w", err)
	}
	for _, g := range groups {
		if err := c.JoinGroup(g); err != nil {
			_ = c.Close()
			return nil, fmt.Errorf("watch the network: %w", err)
		}
	}
	closing, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			// What is told does not matter, nor that more was told than fits.
			_, err := c.Receive()
			select {
			case <-closing:
				return
			case wake <- struct{}{}:
			default:
			}
			if err != nil && !overrun(err) {
				return
			}
		}
	}()
	return func() {
		close(closing)
		_ = c.Close()
		<-done
	}, nil
}

// overrun reports whether an error says that more was told than fits.
func overrun(err error) bool { return errors.Is(err, unix.ENOBUFS) }

// countDropped adds what guests were refused since the last time to the metrics, and tells of it.
func (n *Net) countDropped(ctx context.Context, w Watcher, seen map[counter]uint64) error {
	unlock, err := n.lock(ctx)
	if err != nil {
		return err
	}
	now, err := n.readCounters()
	numbers, err2 := n.d.numbers()
	unlock()
	if err != nil {
		return err
	}
	if err2 != nil {
		return err2
	}
	owner := map[string]string{}
	for id, number := range numbers {
		owner[n.d.port(n.management, number)], owner[n.d.port(n.tenant, number)] = id, id
	}
	for c, frames := range now {
		more := frames - seen[c]
		if frames < seen[c] {
			more = frames // the counter was made anew meanwhile
		}
		seen[c] = frames
		if more == 0 {
			continue
		}
		n.metrics.dropped.WithLabelValues(c.reason).Add(float64(more))
		if id := owner[c.device]; id != "" {
			n.log.WarnContext(ctx, "frames of a guest were dropped", "instance", id, "reason", c.reason, "interface", c.device, "frames", more)
			if w.Dropped != nil {
				w.Dropped(ctx, id, c.reason, more)
			}
		}
	}
	for c := range seen {
		if _, ok := now[c]; !ok {
			delete(seen, c)
		}
	}
	return nil
}
