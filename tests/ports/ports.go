// Package ports finds ports for servers that tests start, and start again.
//
// A port that was free belongs to nobody until the server listens, nor while it is away. On a machine where many connect the kernel would give it to a connection
// meanwhile, which keeps it for a minute after its end. So the ports are none of those that the kernel gives to connections, unless the machine was told to give
// away nearly all. Free may be called from several goroutines.
package ports

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
)

// outside returns the first and the last of the ports to choose from: none of those from low to high, which the kernel gives to connections. Where that leaves too few,
// a server that is away may lose its port, and ok is false.
func outside(low, high int) (first, last int, ok bool) {
	const first0, last0, few = 10240, 19999, 2000
	switch {
	case low > last0 || high < first0: // as with every kernel that was not told otherwise: it gives those from 32768 on
		return first0, last0, true
	case low-1024 >= few:
		return 1024, low - 1, true
	case 65535-high >= few:
		return high + 1, 65535, true
	}
	return first0, last0, false
}

// ofConnections are the first and the last port that the kernel gives to connections.
func ofConnections() (low, high int) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err == nil {
		_, err = fmt.Sscan(string(text), &low, &high)
	}
	if err != nil {
		return 32768, 60999
	}
	return low, high
}

var given struct {
	sync.Mutex
	ports map[int]bool
}

// Free returns a port of the loopback on which nobody listens, at random, as tests of several packages look at the same time. It returns each once.
func Free() (int, error) {
	given.Lock()
	defer given.Unlock()
	if given.ports == nil {
		given.ports = map[int]bool{}
	}
	first, last, _ := outside(ofConnections())
	var taken error
	for range 1000 {
		port := first + rand.N(last-first+1)
		if given.ports[port] {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			taken = err
			continue
		}
		given.ports[port] = true
		return port, l.Close()
	}
	return 0, fmt.Errorf("no port is free: %w", taken)
}
