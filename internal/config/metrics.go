package config

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/trove-dbaas/trove/guestapi"
)

// leastInterval is how often guests may be asked at most; they keep their figures for as long.
const leastInterval = 5 * time.Second

func (m Metrics) check() error {
	if at, err := netip.ParseAddrPort(m.Listen); m.Listen != "" && (err != nil || !at.Addr().IsLoopback()) {
		return fmt.Errorf("metrics.listen: %q is not a loopback address with a port", m.Listen)
	}
	if m.InstanceInterval != 0 && m.InstanceInterval < leastInterval {
		return fmt.Errorf("metrics.instance_interval: %s is neither 0 nor at least %s", m.InstanceInterval, leastInterval)
	}
	if m.InstanceSeries < 0 || m.InstanceSeries > guestapi.MaxSeries {
		return fmt.Errorf("metrics.instance_series: %d is not a number from 0 to %d", m.InstanceSeries, guestapi.MaxSeries)
	}
	return nil
}
