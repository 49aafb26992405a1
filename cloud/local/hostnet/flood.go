package hostnet

import (
	"net"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// What a guest may send to the controllers. Each guest has limits of its own; what is above is dropped where it enters the bridge, before any program of
// this machine sees it. An agent that cannot reach its controllers tries every 2.5 s or more seldom: that must never be too often, or it would
// come back late.
const (
	connectionsPerMinute = 30
	connectionBurst      = 20
	bytesPerSecond       = 512 << 10
	byteBurst            = 1 << 20
	// Of the ports for bulk data only connections are limited: a backup is many requests, and who listens there knows what each may send.
	bulkPerMinute = 600
	bulkBurst     = 200
)

var (
	connectionRate = expr.Limit{Type: expr.LimitTypePkts, Rate: connectionsPerMinute, Unit: expr.LimitTimeMinute, Burst: connectionBurst}
	byteRate       = expr.Limit{Type: expr.LimitTypePktBytes, Rate: bytesPerSecond, Unit: expr.LimitTimeSecond, Burst: byteBurst}
	bulkRate       = expr.Limit{Type: expr.LimitTypePkts, Rate: bulkPerMinute, Unit: expr.LimitTimeMinute, Burst: bulkBurst}
)

// over is true for what comes above the rate. Each rule counts for itself.
func over(rate expr.Limit) []expr.Any {
	rate.Over = true
	return []expr.Any{&rate}
}

// Why something that a guest sent was dropped.
const (
	droppedRefused     = "refused"     // it is not what a guest may send at all
	droppedConnections = "connections" // too many new connections to a controller
	droppedBytes       = "bytes"       // too much to a controller
)

// groupReports is where an IPv6 host reports the groups that it is in.
var groupReports = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 0x16}

func reasonsOn(s side) []string {
	if s.letter == "m" {
		return []string{droppedRefused, droppedConnections, droppedBytes}
	}
	return []string{droppedRefused}
}

func counterName(reason, device string) string { return reason + "-" + device }

func (e ends) counted(reason string) []expr.Any {
	return []expr.Any{&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: counterName(reason, e.device)}}
}

// allPorts are the controllers' ports that guests may reach.
func (n *Net) allPorts() []int { return slices.Concat(n.ports, n.bulk) }

// readCounters returns how many frames of each port were dropped for which reason. The caller has the lock.
func (n *Net) readCounters() (map[counter]uint64, error) {
	f, err := n.filters()
	if err != nil {
		return nil, err
	}
	objects, err := f.conn.GetObjects(f.bridge)
	if err != nil {
		n.closeFilters()
		return nil, err
	}
	all := make(map[counter]uint64, len(objects))
	for _, o := range objects {
		c, ok := o.(*nftables.CounterObj)
		if !ok || c.Table.Name != n.d.table() {
			continue
		}
		if reason, device, ok := strings.Cut(c.Name, "-"); ok {
			all[counter{reason, device}] = c.Packets
		}
	}
	return all, nil
}

// counter is a counter: a reason and a port.
type counter struct{ reason, device string }
