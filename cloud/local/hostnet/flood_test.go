package hostnet_test

import (
	"io"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/trove-dbaas/trove/cloud/local/hostnet"
)

// A guest that opens connections without end gets no more of them, the one beside it gets its own, and the controllers see nothing of it.
func TestFloodOfConnections(t *testing.T) {
	n := open(t, hostnet.Config{})
	hostile, other := guest(t, n), guest(t, n)
	listen(t, nil, n.HostAddress(), controller)
	began := time.Now()
	// As many as the agent makes when it and the controllers start a few times within a minute.
	for i := range 15 {
		if err := fromGuest(t, hostile, n.HostAddress(), controller, patience); err != nil {
			t.Fatalf("connection %d: %v", i+1, err)
		}
	}
	through := 0
	for range 30 {
		if fromGuest(t, hostile, n.HostAddress(), controller, blocked/5) == nil {
			through++
		}
	}
	// 20 at once, and one more every two seconds.
	if most := 5 + int(time.Since(began).Seconds()/2) + 1; through > most {
		t.Errorf("%d of 30 more connections came through, want %d at most", through, most)
	}
	reaches(t, "controller from the guest beside it", fromGuest(t, other, n.HostAddress(), controller, patience))
	// An agent that tries every 2.5 s for as long as the controllers are away is never too often: after a while it gets through.
	reaches(t, "controller after a pause", fromGuest(t, hostile, n.HostAddress(), controller, 2*patience))
}

// A guest sends the controllers half a MiB a second and no more, and as much as it likes to a port for bulk data.
func TestFloodOfBytes(t *testing.T) {
	const bulk = controller + 2
	metrics := prometheus.NewRegistry()
	n := open(t, hostnet.Config{BulkPorts: []int{bulk}, Metrics: metrics})
	w := watch(t, n)
	p := guest(t, n)
	swallow(t, n.HostAddress(), controller)
	swallow(t, n.HostAddress(), bulk)
	send := func(port int, limit time.Duration) int {
		sent := 0
		in(t, p, func() error {
			c, err := net.DialTimeout("tcp4", net.JoinHostPort(n.HostAddress().String(), strconv.Itoa(port)), patience)
			if err != nil {
				return err
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(limit))
			for chunk := make([]byte, 64<<10); sent < 16<<20; {
				count, err := c.Write(chunk)
				sent += count
				if err != nil {
					return nil
				}
			}
			return nil
		})
		return sent
	}
	if got := send(bulk, 2*patience); got < 16<<20 {
		t.Errorf("%d bytes were sent for bulk data, want all", got)
	}
	// The socket's buffers hold some of it, and a MiB may come at once.
	if got := send(controller, 2*time.Second); got > 8<<20 {
		t.Errorf("%d bytes were sent to the controllers within 2 s, want no more than half a MiB a second", got)
	}
	eventually(t, "the flood is counted", func() bool { return count(t, metrics, "bytes") > 0 })
	eventually(t, "somebody is told of it", func() bool { // a moment after it was counted
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.dropped[p.Instance+" bytes"] > 0
	})
}

// swallow reads what it gets on an address of this machine.
func swallow(t testing.TB, ip netip.Addr, port int) {
	t.Helper()
	l, err := net.Listen("tcp4", net.JoinHostPort(ip.String(), strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
}

// A guest that does what guests do is not accused of anything, and each frame of one that does not is counted.
func TestDropsAreCounted(t *testing.T) {
	n := open(t, hostnet.Config{})
	p := guest(t, n)
	listen(t, &p, netip.IPv6Unspecified(), engine)
	listen(t, nil, n.HostAddress(), controller)
	for _, ip := range []netip.Addr{p.Address, p.Address6} {
		reaches(t, "engine at "+ip.String(), dial(ip, engine, anywhere, patience))
	}
	reaches(t, "controller", fromGuest(t, p, n.HostAddress(), controller, patience))
	management, tenant := n.HostPorts(t, p.Instance)
	dropped := func() map[string]uint64 {
		all, err := n.Dropped(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if got := dropped(); len(got) > 0 {
		t.Errorf("dropped %v of a guest that did nothing wrong", got)
	}
	m, mac := n.Guest(p.Instance)
	for range 3 {
		send(t, p, "eth0", ether(broadcast, mac, 0x88b5, []byte(mark)))
		send(t, p, "mgmt0", ether(broadcast, m, 0x88b5, []byte(mark)))
	}
	want := map[string]uint64{"refused " + management: 3, "refused " + tenant: 3}
	eventually(t, "the frames are counted", func() bool { return cmp.Equal(want, dropped()) })
}
